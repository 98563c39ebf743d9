"""Which examples an artifact got worse than the original: worst first, with text or picture where they are at hand."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from compressit import data, intake, tasks
from compressit import model as models
from compressit.data import DatasetSpec
from compressit.outputs import Change, Output, TokenScores
from compressit.report import kept
from compressit.report.pictures import Picture, picture

if TYPE_CHECKING:
    import numpy as np
    from datasets import Dataset
    from numpy.typing import NDArray

Rows = Callable[[int], Mapping[str, Any] | None]
SHOWN = 20
CLIPPED = 300
"""Characters of a text that are shown."""
TEXTS = ("text", "text_pair", "question", "context", "continuation")


@dataclass(frozen=True)
class Flip:
    """One example that an artifact got worse than the original.

    Attributes:
        example: The hash that it goes by.
        text: Its start; None where it isn't at hand.
        picture: Likewise, of an image.
    """

    example: str
    text: str | None
    change: Change
    picture: Picture | None = None


@dataclass(frozen=True)
class Flips:
    """The examples that one artifact got worse.

    Attributes:
        count: How many there are.
        total: Of how many.
        worst: The worst of them, in order.
    """

    artifact: str
    count: int
    total: int
    worst: tuple[Flip, ...]


def found(artifact: str, said: Output, original: Output, names: Sequence[str], row_of: Rows) -> Flips:
    """Rank the examples that an artifact got worse.

    Args:
        artifact: Its name.
        said: What it said.
        original: What the original said of the same examples.
        names: The model's labels in the order of their ids.
        row_of: Finds an example by its hash, where it is at hand.
    """
    import numpy as np

    worse = said.worse(original)
    order = np.argsort(-worse, kind="stable")[:SHOWN]
    hashes = said.arrays()["examples"]
    worst = []
    for place in (int(place) for place in order if worse[place] > 0):
        row = row_of(int(hashes[place]))
        text = None if row is None else written(row)
        seen = None if row is None else drawn(row)
        worst.append(Flip(f"{int(hashes[place]):016x}", text, said.change(original, place, names, row), seen))
    return Flips(artifact, int((worse > 0).sum()), len(worse), tuple(worst))


def lookup(rows: Dataset, spec: DatasetSpec, task: str, checkpoint: Path) -> Rows:
    """Find examples by their hash; windows of tokens as the text that they spell.

    Args:
        rows: The evaluation examples.
        spec: How the task reads them.
        task: Its name.
        checkpoint: Folder of the checkpoint, whose tokenizer cuts windows.

    Raises:
        CompressitError: they can't be cut into windows again.
    """
    if not issubclass(tasks.load(task).OUTPUT, TokenScores):
        return _by_place(data.fingerprints(rows), lambda place: rows[place])
    processor = models.processor(checkpoint, task)
    prepared = tasks.load(task).prepare(rows, processor, spec.max_length, **spec.task_fields())
    first: dict[int, int] = {}
    for place, example in enumerate(prepared["example"]):
        first.setdefault(example, place)
    return _by_place(
        data.identities(prepared, rows), lambda place: {"text": processor.decode(prepared[first[place]]["input_ids"])}
    )


def read(folder: Path, task: str, artifacts: Sequence[str], row_of: Rows) -> tuple[Flips, ...]:
    """Rank the examples of a finished run from what it kept of them.

    Args:
        folder: Of the run.
        task: Its task.
        artifacts: Their names.
        row_of: Finds an example by its hash, for its text.
    """
    if not kept.there(folder):
        return ()
    original, labels = kept.said(folder, task, kept.ORIGINAL), names(folder / "checkpoint")
    return tuple(found(name, kept.said(folder, task, name), original, labels, row_of) for name in artifacts)


def written(row: Mapping[str, Any]) -> str | None:
    """Write an example as text, clipped, or a sound as the name of its file; None for one that is neither."""
    parts = [str(row[role]) for role in TEXTS if row.get(role) is not None]
    if row.get("tokens"):
        parts.append(" ".join(map(str, row["tokens"])))
    if isinstance(row.get("audio"), dict) and row["audio"]["path"]:
        parts.append(Path(row["audio"]["path"]).name)
    text = " | ".join(parts)
    return (f"{text[:CLIPPED]}..." if len(text) > CLIPPED else text) or None


def drawn(row: Mapping[str, Any]) -> Picture | None:
    """Make a picture of an example; None for one that is no image."""
    image = row.get("image")
    return picture(image) if hasattr(image, "convert") else None


def names(folder: Path) -> list[str]:
    """Read the labels of a checkpoint in the order of their ids; those that transformers makes up where it has none."""
    said = intake.described(folder).get("id2label", {"0": "LABEL_0", "1": "LABEL_1"})
    return [str(said[key]) for key in sorted(said, key=int)]


def _by_place(hashes: NDArray[np.uint64], row: Callable[[int], Mapping[str, Any]]) -> Rows:
    places = {int(example): place for place, example in enumerate(hashes)}
    return lambda example: row(places[example]) if example in places else None
