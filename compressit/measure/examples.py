"""The evaluation rows, prepared for the model of one folder."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from compressit import data, model, tasks
from compressit.runtimes import Batch

LOGITS = 1 << 26
"""Logits of one batch at most, 256 MB; a single example may have more."""


class Examples:
    """The evaluation rows, prepared for the model."""

    def __init__(self, folder: Path, setting: Mapping[str, Any]) -> None:
        import datasets

        datasets.disable_progress_bars()
        self.rows = datasets.load_from_disk(setting["rows"])
        self.task: Any = tasks.load(setting["task"])
        self.processor = model.processor(folder, setting["task"], trust_remote_code=setting["trust_remote_code"])
        labels = model.labels(folder, trust_remote_code=setting["trust_remote_code"])
        self.names = [labels[index] for index in sorted(labels)]
        self.reader = tasks.reader(setting["task"], folder)
        self.length, self.fields = setting["max_length"], setting["fields"]
        self.prepared = self.task.prepare(self.rows, self.processor, self.length, **self.fields)
        self.collate = self.task.collate(self.processor)
        self.manner = tasks.manner(setting["task"], self.processor, self.fields)

    def batches(self, order: list[int], size: int) -> Iterator[tuple[list[int], dict[str, Any], Any]]:
        """Give (places, numpy batch, labels) in a given order."""
        for places, batch in data.batched(self.prepared, self.collate, order, size):
            arrays = {name: value.numpy() for name, value in batch.items()}
            labels = arrays.pop("labels")
            yield places, {**arrays, **self.manner}, labels

    def timed(self, points: list[float]) -> Batch:
        """Give what is run for a timing: one batch of the prepared rows that lie at points from 0 to 1.

        Where every row of the data is one prepared row, a point means the same row for every model.
        """
        places = [int(point * len(self.prepared)) for point in points]
        _, batch, _ = next(self.batches(places, len(places)))
        chosen: Batch = getattr(self.task, "timed", lambda batch: batch)(batch)
        return chosen

    def gathered(self, said: Mapping[str, list[Any]]) -> dict[str, Any]:
        """Put together what was said of each example, and name each by a hash of its content."""
        arrays: dict[str, Any] = self.task.OUTPUT.gather(said, self.prepared, self.rows, self.names)
        return {**arrays, "examples": data.identities(self.prepared, self.rows)}

    def protocol(self) -> dict[str, str | int]:
        """Say how the examples were scored, where the task or its reader has something to say."""
        say = getattr(self.task, "protocol", None)
        said = say(self.prepared, self.rows, self.processor, self.length, **self.fields) if say else {}
        return {**said, **getattr(self.reader, "protocol", dict)()}


def affordable(logits: Any, most: int) -> int:
    """Count the examples whose logits fit a batch, `most` at most, from those of the longest one."""
    return int(max(1, min(most, LOGITS // max(1, logits.size))))
