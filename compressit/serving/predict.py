"""What a saved artifact says of new rows, on its own runtime, a chunk of rows at a time."""

from __future__ import annotations

import itertools
import json
import math
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from compressit import data, model, provenance, runtimes, tasks
from compressit.errors import DataError, RecipeError, StepError
from compressit.measure.examples import affordable
from compressit.outputs import Asked
from compressit.progress import Progress, quiet
from compressit.runtimes import Session
from compressit.serving import reading
from compressit.serving.finished import Finished
from compressit.serving.reading import Row

CHUNK = 2048
"""Rows in memory at a time; texts of like lengths among them share a batch."""
SAID = "prediction"
"""What is added to each row."""


@dataclass(frozen=True)
class Wanted:
    """What to predict with.

    Attributes:
        artifact: Its name; None for the last one made.
        columns: The file's column by role, where it is not that of the recipe.
        vectors: Give the vector of each text rather than the cosine of two.
    """

    artifact: str | None = None
    columns: Mapping[str, str] = field(default_factory=dict)
    batch_size: int = 32
    device: str = "auto"
    vectors: bool = False
    trust_remote_code: bool = False


def predict(run: Finished, file: Path, wanted: Wanted, write: Callable[[str], object], progress: Progress) -> int:
    """Read a file's rows and write each with what the artifact says of it, as a line of JSON, in their order.

    All rows are looked through before the first is predicted.

    Args:
        run: The finished run.
        file: JSON lines, csv, tsv or parquet.
        wanted: What to predict with.
        write: Takes one line, its end included.
        progress: Told how far the work is.

    Returns:
        How many rows there are.

    Raises:
        RecipeError: the task has no such predictions, or there is no such artifact.
        DataError: a column is missing or a row is wrong; the message names its line.
        StepError: what the artifact says of a row is not a number.
    """
    task = tasks.load(run.report.task)
    if hasattr(task, "ELSEWHERE"):
        raise RecipeError(f"predict says nothing for {run.report.task}: a text's end is open", hint=task.ELSEWHERE)
    if wanted.vectors and "text_pair" not in tasks.judged_by(run.report.task):
        raise RecipeError(f"--vectors is for sentence-similarity; this run is of {run.report.task}")
    columns = reading.columns(file, run.recipe, wanted.columns, lone=wanted.vectors)
    subject = run.subject(run.artifact(wanted.artifact), provenance.device(wanted.device))
    with quiet(), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        folder, trust = Path(subject.folder), wanted.trust_remote_code
        answerer = _Answerer(run, folder, columns, file, wanted)
        count = answerer.checked()
        progress.say(f"open {subject.folder} on {subject.runtime}, {subject.device}")
        session = runtimes.load(subject.runtime).open(folder, run.report.task, subject.device, trust)
        with progress.bar("predict", count) as advance:
            for rows in answerer.chunks():
                for row, said in zip(rows, answerer.said(rows, session), strict=True):
                    write(_line(row, said, file))
                advance(len(rows))
    return count


class _Answerer:
    """Rows of a file, prepared for an artifact, and what that says of them."""

    def __init__(self, run: Finished, folder: Path, columns: Mapping[str, str], file: Path, wanted: Wanted) -> None:
        self.task: Any = tasks.load(run.report.task)
        self.name, self.protocol = run.report.task, run.report.provenance.data
        self.columns, self.file, self.batch_size = columns, file, wanted.batch_size
        self.processor = model.processor(folder, self.name, trust_remote_code=wanted.trust_remote_code)
        self.collate = self.task.collate(self.processor)
        spec = run.recipe.dataset
        self.length = spec.max_length if spec is not None else None
        self.fields = spec.task_fields() if spec is not None else {}
        self.manner = tasks.manner(self.name, self.processor, self.fields)
        labels = model.labels(folder, trust_remote_code=wanted.trust_remote_code)
        own = getattr(self.task, "classes", None)
        self.names = own(self.processor) if own else [labels[index] for index in sorted(labels)]

    def checked(self) -> int:
        """Look through all rows, so that a wrong one shows before any work; count them."""
        unfit = getattr(self.task, "unfit", lambda row, processor: None)
        count = 0
        for row in reading.rows(self.file):
            if SAID in row.values:
                raise DataError(
                    f"{row.where} of {self.file} has {SAID!r} already", hint="give that column another name"
                )
            why = unfit(self.values(row), self.processor)
            if why:
                raise DataError(f"{row.where} of {self.file}: {why}")
            count += 1
        return count

    def values(self, row: Row) -> dict[str, Any]:
        """Give a row's values by role."""
        return {role: reading.value(role, row, column, self.file) for role, column in self.columns.items()}

    def chunks(self) -> Iterator[Sequence[Row]]:
        """Give all rows, some at a time."""
        rows = reading.rows(self.file)
        while some := list(itertools.islice(rows, CHUNK)):
            yield some

    def said(self, rows: Sequence[Row], session: Session) -> list[dict[str, Any]]:
        """Run over some rows and say what the model finds in each."""
        found = [self.values(row) for row in rows]
        asked = data.questions({role: [values[role] for values in found] for role in self.columns}, self.name)
        prepare = getattr(self.task, "asked", None)
        if prepare is not None:
            prepared = prepare(asked, self.processor, self.length)
        else:
            prepared = self.task.prepare(asked, self.processor, self.length, **self.fields)
        order = data.by_length(prepared)
        size = self.batch_size
        if size > 1:
            (_, longest), *_ = data.batched(prepared, self.collate, order[-1:], 1)
            size = affordable(session({**_arrays(longest)[0], **self.manner}), size)
        kept: dict[str, list[Any]] = {}
        for places, batch in data.batched(prepared, self.collate, order, size):
            arrays, labels = _arrays(batch)
            for name, values in self.task.OUTPUT.kept(session({**arrays, **self.manner}), labels).items():
                laid = kept.setdefault(name, [None] * len(order))
                for place, value in zip(places, values, strict=True):
                    laid[place] = value
        spoken: list[dict[str, Any]] = self.task.OUTPUT.spoken(kept, Asked(prepared, asked, self.names, self.protocol))
        return spoken


def _arrays(batch: Mapping[str, Any]) -> tuple[dict[str, Any], Any]:
    arrays = {name: value.numpy() for name, value in batch.items()}
    return arrays, arrays.pop("labels")


def _line(row: Row, said: Mapping[str, Any], file: Path) -> str:
    """Write a row with what is said of it; a number of the row that JSON doesn't have, such as NaN, as null."""
    try:
        spoken = json.dumps(said, ensure_ascii=False, allow_nan=False)
    except ValueError as error:
        raise StepError(
            f"what the model says of {row.where} of {file} is not a number",
            hint="its weights or their precision overflow on this row: try another artifact with --artifact",
        ) from error
    try:
        own = json.dumps(row.values, ensure_ascii=False, allow_nan=False, default=_plain)
    except ValueError:
        own = json.dumps(_finite(row.values), ensure_ascii=False, default=_plain)
    return f"{own[:-1]}, {json.dumps(SAID)}: {spoken}}}\n"


def _finite(value: Any) -> Any:
    if isinstance(value, dict):
        return {name: _finite(each) for name, each in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(each) for each in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def _plain(value: Any) -> str:
    """Write what JSON doesn't know, such as dates of parquet files; bytes are counted."""
    return f"{len(value)} bytes" if isinstance(value, bytes) else str(value)
