"""Which data a recipe uses."""

from __future__ import annotations

import re
from typing import Annotated, Literal

from pydantic import AfterValidator, Field

from compressit.spec import Location, Spec

SPLIT = re.compile(r"(?P<name>[^\[\]]+)(\[(?P<start>\d+%?)?:(?P<stop>\d+%?)?\])?")


def _checked(split: str) -> str:
    if not SPLIT.fullmatch(split) or not split.isprintable():
        raise ValueError(f"{split!r} is not a split; write it like train, train[:512], train[10%:20%] or train.jsonl")
    return split


Split = Annotated[str, AfterValidator(_checked)]


class DatasetSpec(Spec):
    """Where the examples are and which of them serve what."""

    path: Location
    """Hub id, demo:NAME, a local csv, tsv, json lines, parquet or text file, or a folder of such files or of images."""
    name: str | None = None
    """Configuration of a hub data set, such as `sst2` of `glue`."""
    revision: str | None = None
    """Branch, tag or commit on the hub."""
    train: Split | None = None
    """Split that training steps learn from: a name, or a file inside the folder, with an optional slice."""
    calibration: Split | None = None
    """Split that steps measure activations on."""
    evaluation: Split
    """Split that the original and every artifact are judged on; keep it apart from the other two."""
    columns: dict[str, str] = Field(default_factory=dict)
    """The data's column for each role of the task, such as `text: sentence` (default: the role's own name)."""
    labels: dict[str, str] | None = None
    """The model's label for each label of the data, where their names differ."""
    max_length: int | None = Field(default=None, ge=1)
    """Tokens at which a text is cut (default: the model's limit); where texts are read in windows, of one of them."""
    packing: Literal["joined", "documents"] | None = None
    """How a language model's windows are cut: from all texts joined (the default), or from each document by itself."""
    stride: int | None = Field(default=None, ge=1)
    """Tokens from one window of a text to the next (default: the task's own; a language model's don't overlap)."""
    max_leak: float = Field(default=0.1, ge=0, le=1)
    """Share of the evaluation examples that the train or calibration split may hold too; more is an error."""
    max_answer: int | None = Field(default=None, ge=1)
    """Tokens of an answer at most, for question-answering (default: 30)."""

    def task_fields(self) -> dict[str, str | int]:
        """Give the fields that only some tasks read, where they are set."""
        fields = {"packing": self.packing, "stride": self.stride, "max_answer": self.max_answer}
        return {name: value for name, value in fields.items() if value is not None}
