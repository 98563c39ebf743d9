"""Answer a question with a piece of a text, or say that the text holds no answer.

Roles: `question`, `context` and `answers`, which are {text: [...], answer_start: [...]} as in SQuAD, in characters of
the context; empty lists are a question that can't be answered.

A context that doesn't fit in `max_length` tokens (default: 384, or the model's limit) beside its question is read in
windows, each `stride` tokens of the context after the one before it (default: 128, or half a window); the question
gets at most half the room. The answer is the best span of all windows, of at most `max_answer` tokens (default: 30):
start and end logits are added up, and all pairs inside the context are looked at. Where the data judged holds questions
without an answer, a model says so by the logits of the first token, as those for SQuAD 2.0 do. Training and calibration
use windows of the default stride. Needs a fast tokenizer, which says where in the text each token is.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

from compressit.errors import DataError, StepError
from compressit.outputs import OUT_OF_REACH, Answers
from compressit.outputs.answers import NOWHERE

if TYPE_CHECKING:
    import torch
    from datasets import Dataset

AUTO_CLASS = "AutoModelForQuestionAnswering"
PROCESSOR_CLASS = "AutoTokenizer"
ROLES = {"question": True, "context": True, "answers": True}
TRUTH = "answers"
OUTPUT = Answers
OUTPUTS = ("start_logits", "end_logits")
PLACES = True
FIELDS = ("stride", "max_answer")
METRICS = ("exact_match", "answer_f1", "agreement", "latency", "throughput", "size")

LENGTH, STRIDE, LONGEST = 384, 128, 30
"""Tokens of a window, from one to the next, and of an answer at most, where the recipe says nothing."""
BESIDES = ("row", "inside", "begins", "ends", "span", "longest")
"""Columns of prepared rows that are not the model's inputs."""
NO_LABEL = -100
"""Stands for a start or an end that nobody knows; losses pass it over."""
BATCH = 256


def prepare(
    rows: Dataset, processor: Any, max_length: int | None, stride: int | None = None, max_answer: int | None = None
) -> Dataset:
    """Tokenize, and cut contexts into windows.

    Gives inputs; `row`, the row that a window is of; `inside`, the places of its first token of the context and of the
    one after its last; `begins` and `ends`, where in the context those tokens are; `span`, the places where the answer
    starts and ends (-100 where nobody knows); and `longest`. In a window that doesn't hold the answer whole it starts
    and ends at the first token, as no answer does.

    Raises:
        DataError: `max_length` is beyond the model's limit, or leaves no room.
        StepError: the tokenizer can't say where its tokens are.
    """
    size = _size(processor, max_length)

    def cut(some: dict[str, list[Any]], numbers: list[int]) -> dict[str, list[Any]]:
        questions = [question.strip() for question in some["question"]]
        encoded = processor(questions, some["context"], verbose=False).encodings
        columns: dict[str, list[Any]] = {}
        for row, each, truth in zip(numbers, encoded, some["answers"], strict=True):
            for made in _windows(each, truth, size, stride):
                if "token_type_ids" not in processor.model_input_names:
                    made.pop("token_type_ids")
                for name, value in {**made, "row": row, "longest": max_answer or LONGEST}.items():
                    columns.setdefault(name, []).append(value)
        return columns

    return rows.map(cut, batched=True, batch_size=BATCH, with_indices=True, remove_columns=rows.column_names, desc=None)


def collate(processor: Any) -> Callable[[list[dict[str, Any]]], dict[str, Any]]:
    """Pad a list of windows to the longest of them, on the right: the first token stays the first.

    Labels are (B, L, 2), whether the answer starts, and ends, at each token: 1 or 0, or -100 where none may.
    """
    import torch

    def pad(examples: list[dict[str, Any]]) -> dict[str, Any]:
        inputs = [{key: value for key, value in example.items() if key not in BESIDES} for example in examples]
        padded = processor.pad(inputs, return_tensors="pt", padding_side="right")
        labels = torch.full((*padded["input_ids"].shape, 2), NOWHERE)
        for row, example in zip(labels, examples, strict=True):
            row[0] = row[slice(*example["inside"])] = 0
            for side, place in enumerate(example["span"]):
                if place != NO_LABEL:
                    row[place, side] = 1
        return {**padded, "labels": labels}

    return pad


def scored(logits: torch.Tensor, labels: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Give a row of logits for each start and each end, (2B, L), out of reach where none may be, and their places.

    Args:
        logits: Of starts and of ends: (B, L, 2).
        labels: As `collate` makes them: (B, L, 2).
    """
    import torch

    rows = logits.float().masked_fill(labels == NOWHERE, OUT_OF_REACH).transpose(1, 2).flatten(0, 1)
    here = (labels == 1).transpose(1, 2).flatten(0, 1)
    return rows, torch.where(here.any(-1), here.int().argmax(-1), NO_LABEL)


def protocol(
    prepared: Dataset,
    rows: Dataset,
    processor: Any,
    max_length: int | None,
    stride: int | None = None,
    max_answer: int | None = None,
) -> dict[str, str | int]:
    """Say how the questions were answered, so that a figure can be compared with others."""
    unanswerable = sum(not each["text"] for each in rows["answers"])
    return {
        "context length": _size(processor, max_length),
        "stride": stride or f"{STRIDE}, or half a window",
        "windows": len(prepared),
        "longest answer": max_answer or LONGEST,
        "unanswerable": unanswerable,
        "no answer": "allowed" if unanswerable else "not allowed",
    }


def _size(processor: Any, max_length: int | None) -> int:
    if not getattr(processor, "is_fast", False):
        raise StepError(
            f"{type(processor).__name__} is a slow tokenizer: it can't say where in a text its tokens are",
            hint="save the model with the fast version of its tokenizer, which writes a tokenizer.json",
        )
    limit: int = processor.model_max_length
    if max_length is not None and max_length > limit:
        raise DataError(f"max_length {max_length} is beyond the {limit} tokens that the model takes")
    size, special = max_length or min(limit, LENGTH), processor.num_special_tokens_to_add(pair=True)
    if size < special + 2:
        raise DataError(
            f"max_length {size} leaves no room for a question and a context beside {special} special tokens"
        )
    return size


def _windows(encoded: Any, truth: Any, size: int, stride: int | None) -> Iterator[dict[str, Any]]:
    """Cut one encoded pair of texts."""
    # Each is made anew whenever it is asked for.
    parts, ids, kinds, offsets = encoded.sequence_ids, encoded.ids, encoded.type_ids, encoded.offsets
    asked = [place for place, part in enumerate(parts) if part == 0]
    first = next((place for place, part in enumerate(parts) if part == 1), len(parts) - 1)
    count = parts.count(1)
    special = len(parts) - len(asked) - count
    cut = {*asked[max(1, (size - special) // 2) :]}
    before = [place for place in range(first) if place not in cut]
    after = list(range(first + count, len(parts)))
    room = size - len(before) - len(after)
    step = min(stride or min(STRIDE, -(-room // 2)), room)
    for start in range(0, max(1, count), step):
        inside = list(range(first + start, first + min(start + room, count)))
        places = [*before, *inside, *after]
        begins, ends = ([offsets[place][side] for place in inside] for side in (0, 1))
        yield {
            "input_ids": [ids[place] for place in places],
            "token_type_ids": [kinds[place] for place in places],
            "attention_mask": [1] * len(places),
            "begins": begins,
            "ends": ends,
            "inside": [len(before), len(before) + len(inside)],
            "span": _span(len(before), begins, ends, truth),
        }
        if start + room >= count:
            return


def _span(before: int, begins: list[int], ends: list[int], truth: Any) -> list[int]:
    """Find the places where the first true answer starts and ends: those of a window's first token if not in it."""
    if truth is None:
        return [NO_LABEL, NO_LABEL]
    if not truth["text"] or not begins:
        return [0, 0]
    begin = truth["answer_start"][0]
    end = begin + len(truth["text"][0])
    if begin < begins[0] or end > ends[-1]:
        return [0, 0]
    return [before + bisect_right(begins, begin) - 1, before + bisect_left(ends, end)]
