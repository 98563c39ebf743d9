"""Give each word of a text a tag, as for named entities.

Roles: `tokens`, the words as a list (or a text to be split at white space), and `tags`, as many names or ids.

A word's tag is what the model says of its first sub-token. Words that don't fit in `max_length` tokens (default: the
model's limit) begin another window; every word is in one window, and only one longer than that is cut. A word of which
the tokenizer makes nothing counts as tagged O. Needs a fast tokenizer, which says of which word each sub-token is.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from itertools import pairwise
from typing import TYPE_CHECKING, Any

from compressit.algorithms.writing import spaced
from compressit.errors import DataError, StepError
from compressit.outputs import Tags
from compressit.outputs.tags import NOT_A_WORD, UNKNOWN
from compressit.tasks._padding import by_position
from compressit.tasks.text_classification import checked_length

if TYPE_CHECKING:
    import torch
    from datasets import Dataset

AUTO_CLASS = "AutoModelForTokenClassification"
PROCESSOR_CLASS = "AutoTokenizer"
ROLES = {"tokens": True, "tags": True}
TRUTH = "tags"
OUTPUT = Tags
METRICS = ("entity_f1", "accuracy", "agreement", "latency", "throughput", "size")

BESIDES = ("labels", "row", "words")
"""Columns of prepared rows that are not the model's inputs."""


def prepare(rows: Dataset, processor: Any, max_length: int | None) -> Dataset:
    """Cut words into sub-tokens and rows into windows.

    Gives inputs; `labels` (-100 where no word begins); `row`, the row that a window is of; and `words`, the numbers in
    that row of the words that begin in it.

    Raises:
        DataError: `max_length` is beyond the model's limit, or leaves no room.
        StepError: the tokenizer can't say of which word a sub-token is.
    """
    import datasets

    size, spaces = _size(processor, max_length), _lost_spaces(processor)
    columns: dict[str, list[Any]] = {}
    for row, (words, tags) in enumerate(zip(rows["tokens"], rows["tags"], strict=True)):
        for first, encoded in _windows(_written(words) if spaces else words, processor, size):
            begins = _begins(encoded.word_ids())
            where = [first + word if word is not None else None for word in begins]
            made = {
                **encoded,
                "labels": [NOT_A_WORD if word is None else tags[word] for word in where],
                "row": row,
                "words": [word for word in where if word is not None],
            }
            for name, value in made.items():
                columns.setdefault(name, []).append(value)
    return datasets.Dataset.from_dict(columns)


def collate(processor: Any) -> Callable[[list[dict[str, Any]]], dict[str, Any]]:
    """Pad a list of windows to the longest of them, on the tokenizer's side."""
    return by_position(processor, BESIDES, NOT_A_WORD)


def scored(logits: torch.Tensor, labels: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Pick where words begin: the logits there, and the tags (-100 for those that nobody knows)."""
    here = labels != NOT_A_WORD
    targets = labels[here]
    return logits[here], targets.masked_fill(targets == UNKNOWN, NOT_A_WORD)


def protocol(prepared: Dataset, rows: Dataset, processor: Any, max_length: int | None) -> dict[str, str | int]:
    """Say how many words were scored, and in what windows, so that a figure can be compared with others."""
    words = sum(map(len, rows["tokens"]))
    unread = words - sum(map(len, prepared["words"]))
    said: dict[str, str | int] = {
        "words": words,
        "tag of a word": "of its first sub-token",
        "context length": _size(processor, max_length) or "any",
        "rows in several windows": sum(count > 1 for count in Counter(prepared["row"]).values()),
    }
    return said | ({"words without a token, taken for O": unread} if unread else {})


def _size(processor: Any, max_length: int | None) -> int | None:
    if not getattr(processor, "is_fast", False):
        raise StepError(
            f"{type(processor).__name__} is a slow tokenizer: it can't say of which word a sub-token is",
            hint="save the model with the fast version of its tokenizer, which writes a tokenizer.json",
        )
    size, special = checked_length(processor, max_length), processor.num_special_tokens_to_add()
    if size is not None and size <= special:
        raise DataError(f"max_length {size} leaves no room for a word: {special} of its tokens are special ones")
    return size


def _windows(words: list[str], processor: Any, size: int | None) -> Iterator[tuple[int, Any]]:
    """Divide words so that each part fits; give the number of its first word and its encoding."""
    whole = processor(words, is_split_into_words=True, verbose=False)
    if size is None or len(whole["input_ids"]) <= size:
        yield 0, whole
        return
    counts, room = [0] * len(words), size - processor.num_special_tokens_to_add()
    for word in whole.word_ids():
        if word is not None:
            counts[word] += 1
    first = held = 0
    starts = []
    for word, count in enumerate(counts):
        if held and held + count > room:
            starts.append(first)
            first, held = word, 0
        # A word longer than a window is cut; what it is told by comes first.
        held += min(count, room)
    for start, stop in pairwise([*starts, first, len(words)]):
        yield start, processor(words[start:stop], is_split_into_words=True, truncation=True, max_length=size)


def _lost_spaces(processor: Any) -> bool:
    """Tell whether the tokenizer runs words together that it is given one by one: many byte-level ones do."""
    apart, text = (processor(each, is_split_into_words=not isinstance(each, str)) for each in (["a", "a"], "a a"))
    return bool(apart["input_ids"] != text["input_ids"])


def _written(words: list[str]) -> list[str]:
    """Put a space before each word but the first and those of scripts that have none."""
    pairs = zip(["", *words], words, strict=False)
    return [f" {word}" if spaced(before, word) else word for before, word in pairs]


def _begins(word_ids: Sequence[int | None]) -> list[int | None]:
    """Keep the word's number where it begins."""
    return [word if word != before else None for word, before in zip(word_ids, [None, *word_ids[:-1]], strict=True)]
