"""Choose among answers to a question: a causal language model, judged by which answer it finds likeliest.

Roles: `context`, the question as the model shall read it; `choices`, a list of texts or, as ARC has them, {text: [...],
label: [...]}, or `choice_a` and `choice_b`, as PIQA has them; and `answer`, the right one's place from 0, its letter,
its label or its text.

Each choice is scored as what goes on from the context, with `prefix` ahead of it ("Question: ") and `suffix` after it
(a line with "Answer:"), by the sum of its tokens' log likelihoods. `normalize: characters` or `tokens` divides that by
its length, so that short ones have no advantage; none and characters are `acc` and `acc_norm` of common leaderboards. A
context that is too long loses its beginning. Training and calibration read the context with the right choice, of which
training learns the latter.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any, Literal

from compressit.algorithms.likelihood import NOT_SCORED
from compressit.outputs import Choices
from compressit.tasks._continuing import continuation, start_of, tokenizing, window
from compressit.tasks.text_generation import AUTO_CLASS, PROCESSOR_CLASS, SETTINGS, collate, scored, timed

if TYPE_CHECKING:
    from datasets import Dataset

__all__ = ["AUTO_CLASS", "PROCESSOR_CLASS", "SETTINGS", "collate", "scored", "timed"]

ROLES = {"context": True, "choices": False, "choice_a": False, "choice_b": False, "answer": True, "group": False}
CHOICES = (("choices",), ("choice_a", "choice_b"))
TRUTH = "answer"
DECODES = True
FIELDS = ("prefix", "suffix", "normalize")
READ_BY = ("prefix", "suffix")
OUTPUT = Choices
METRICS = ("accuracy", "agreement", "kl_divergence", "latency", "throughput", "size")
ELSEWHERE = "it is the language model that is put to use, as one for text-generation is"


def prepare(
    rows: Dataset,
    processor: Any,
    max_length: int | None,
    prefix: str = "",
    suffix: str = "",
    normalize: Literal["characters", "tokens"] | None = None,
) -> Dataset:
    """Give a window for each choice: `input_ids`, `labels` (-100 but for the choice), `example` and `length`.

    Raises:
        DataError: `max_length` is beyond the model's limit, or a choice has no token.
    """
    import datasets

    size, tokenize = window(processor, max_length), tokenizing(processor)
    columns: dict[str, list[Any]] = {"input_ids": [], "labels": [], "example": [], "length": []}
    for number, context, choice in _each(rows):
        tokens, given = continuation(f"{prefix}{context}{suffix}", choice, tokenize, size)
        columns["input_ids"].append(list(tokens))
        columns["labels"].append([NOT_SCORED] * given + list(tokens[given:]))
        columns["example"].append(number)
        columns["length"].append({"characters": len(choice), "tokens": len(tokens) - given}.get(normalize or "", 1))
    return datasets.Dataset.from_dict(columns)


def singly(rows: Dataset) -> Dataset:
    """Leave each row its right choice alone; all of them where nobody knows it."""
    import datasets

    right = [
        choices[answer : answer + 1] if answer >= 0 else choices
        for choices, answer in zip(rows["choices"], rows["answer"], strict=True)
    ]
    columns = {"context": list(rows["context"]), "choices": right, "answer": [min(0, at) for at in rows["answer"]]}
    return datasets.Dataset.from_dict(columns)


learned = singly


def protocol(
    prepared: Dataset,
    rows: Dataset,
    processor: Any,
    max_length: int | None,
    prefix: str = "",
    suffix: str = "",
    normalize: Literal["characters", "tokens"] | None = None,
) -> dict[str, str | int]:
    """Say how choices were scored, so that a figure can be compared with others."""
    begin = start_of(processor)
    around = {"prefix": repr(prefix)} if prefix else {}
    around |= {"suffix": repr(suffix)} if suffix else {}
    return {
        "scored by": f"log likelihood for each of its {normalize}" if normalize else "log likelihood",
        "context length": window(processor, max_length),
        "choices": len(prepared),
        "start token": processor.decode(begin) if begin else "none",
        **around,
    }


def _each(rows: Dataset) -> Iterator[tuple[int, str, str]]:
    """Give each choice with its row's number and context."""
    for number, (context, choices) in enumerate(zip(rows["context"], rows["choices"], strict=True)):
        for choice in choices:
            yield number, context, choice
