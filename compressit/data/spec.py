"""Which data a recipe uses."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, Field, model_validator

from compressit.spec import Location, Spec

TASK_FIELDS = (
    "packing", "stride", "max_answer", "prefix", "suffix", "normalize", "max_target", "source_language",
    "target_language", "generation", "max_seconds",
)  # fmt: skip
"""Fields of a data set that only some tasks read."""
SPLIT = re.compile(r"(?P<name>[^\[\]]+)(\[(?P<start>\d+%?)?:(?P<stop>\d+%?)?\])?")


def _checked(split: str) -> str:
    if not SPLIT.fullmatch(split) or not split.isprintable():
        raise ValueError(f"{split!r} is not a split; write it like train, train[:512], train[10%:20%] or train.jsonl")
    return split


Split = Annotated[str, AfterValidator(_checked)]


class Generation(Spec):
    """How texts are generated, for summarization and translation: greedily or by beams, never drawn at random."""

    num_beams: int | None = Field(default=None, ge=1, le=64)
    """Beams that are followed side by side; 1 is greedy."""
    max_new_tokens: int | None = Field(default=None, ge=1, le=100_000)
    """Tokens of a text at most."""
    min_new_tokens: int | None = Field(default=None, ge=0, le=100_000)
    """Tokens of a text at least."""
    length_penalty: float | None = Field(default=None, ge=-100, le=100)
    """Power of the length that a beam's score is divided by: the higher, the longer the texts."""
    no_repeat_ngram_size: int | None = Field(default=None, ge=0, le=1000)
    """Length of pieces that a text may not repeat, in tokens; 0 for none."""
    repetition_penalty: float | None = Field(default=None, gt=0, le=100)
    """What a token's odds are divided by if it was there before; 1 for nothing."""
    early_stopping: bool | None = None
    """End as soon as there are as many whole texts as beams."""

    def idle(self) -> Mapping[str, str]:
        """Name what tells beams apart, where there is one."""
        return dict.fromkeys(("length_penalty", "early_stopping"), "num_beams above 1") if self.num_beams == 1 else {}

    @model_validator(mode="after")
    def _in_order(self) -> Generation:
        least, most = self.min_new_tokens, self.max_new_tokens
        if least is not None and most is not None and least > most:
            raise ValueError(f"min_new_tokens {least} is beyond max_new_tokens {most}")
        return self


class DatasetSpec(Spec):
    """Where the examples are and which of them serve what."""

    path: Location
    """Hub id, demo:NAME, a local csv, tsv, json lines, parquet, arrow or text file, or a folder of such files, of
    images or of sounds; for multiple-choice a task of the LM Evaluation Harness, too, such as lm_eval:arc_easy."""
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
    """The data's column for each role of the task, such as `text: sentence` (default: the role's own name); a field of
    a column is `translation.de`."""
    labels: dict[str, str] | None = None
    """The model's label for each label of the data, where their names differ."""
    max_length: int | None = Field(default=None, ge=1)
    """Tokens at which a text is cut (default: the model's limit); where texts are read in windows, of one of them."""
    max_seconds: float | None = Field(default=None, gt=0, le=3600)
    """Seconds at which a sound is cut, for audio-classification (default: nowhere)."""
    packing: Literal["joined", "documents"] | None = None
    """How a language model's windows are cut: from all texts joined (the default), or from each document by itself."""
    stride: int | None = Field(default=None, ge=1)
    """Tokens from one window of a text to the next (default: the task's own; a language model's don't overlap)."""
    max_leak: float = Field(default=0.1, ge=0, le=1)
    """Share of the evaluation examples that the train or calibration split may hold too; more is an error."""
    max_answer: int | None = Field(default=None, ge=1)
    """Tokens of an answer at most, for question-answering (default: 30)."""

    prefix: str | None = Field(default=None, min_length=1, max_length=1000)
    """What is put before each text, for summarization, translation (T5's "summarize: ") and multiple-choice."""
    suffix: str | None = Field(default=None, min_length=1, max_length=1000)
    """What is put after each question, for multiple-choice, such as "\\nAnswer:"."""
    normalize: Literal["characters", "tokens"] | None = None
    """What the log likelihood of a choice is divided by the number of, for multiple-choice (default: by nothing)."""
    shots: int | None = Field(default=None, ge=0, le=100)
    """Solved examples ahead of each question of a task of the LM Evaluation Harness (default: none)."""
    max_target: int | None = Field(default=None, ge=2)
    """Tokens at which summaries and translations are cut to learn from (default: as texts are)."""
    source_language: str | None = None
    """Language of the texts, for translation, as a tokenizer of many languages calls it: `eng_Latn`, `en_XX`."""
    target_language: str | None = None
    """Language of the translations, likewise."""
    generation: Generation | None = None
    """How summaries and translations are generated to be judged (default: as the model's generation_config.json says,
    and 128 new tokens where it sets no limit)."""

    def idle(self) -> Mapping[str, str]:
        """Name what is about splits that aren't named."""
        return {} if self.train or self.calibration else {"max_leak": "train or calibration"}

    def task_fields(self) -> dict[str, Any]:
        """Give the fields that only some tasks read, where they are set, as plain values."""
        fields = {name: getattr(self, name) for name in TASK_FIELDS}
        if self.generation is not None:
            fields["generation"] = self.generation.model_dump(exclude_none=True)
        return {name: value for name, value in fields.items() if value is not None}
