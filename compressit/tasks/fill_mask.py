"""Find the words that are masked in a text: a masked language model, judged by how likely it finds the true ones.

Roles: `text`, a document; those longer than `max_length` tokens (default: the model's limit) are cut into windows side
by side, each between the special tokens that the tokenizer puts around a text.

Of each window 15% of the tokens, at least one, are replaced by the mask token: which ones is drawn from the window's
own tokens, so that they are the same for every model of that tokenizer, every time. They are scored all together, which
is not the pseudo-perplexity of one mask at a time. Training sees each window with the same masks in every epoch.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from itertools import chain
from typing import TYPE_CHECKING, Any

from compressit.algorithms.likelihood import NOT_SCORED
from compressit.errors import DataError, StepError
from compressit.outputs import MaskedTokens
from compressit.tasks._padding import by_position
from compressit.tasks.text_classification import checked_length

if TYPE_CHECKING:
    import torch
    from datasets import Dataset

AUTO_CLASS = "AutoModelForMaskedLM"
PROCESSOR_CLASS = "AutoTokenizer"
ROLES = {"text": True}
OUTPUT = MaskedTokens
METRICS = ("accuracy", "perplexity", "agreement", "latency", "throughput", "size")
SETTINGS = {"throughput": {"batch_size": 4}}

SHARE = 0.15
"""Of a window's tokens that are masked, as BERT's makers chose."""
BESIDES = ("labels", "example", "row")
"""Columns of prepared rows that are not the model's inputs."""


def prepare(rows: Dataset, processor: Any, max_length: int | None) -> Dataset:
    """Cut texts into windows and mask: `input_ids`, `attention_mask`, `labels` (-100 where nothing is masked).

    Raises:
        DataError: `max_length` is beyond the model's limit or leaves no room, or there is nothing to mask.
        StepError: the tokenizer has no mask token.
    """
    import datasets

    if processor.mask_token_id is None:
        raise StepError("the tokenizer has no mask token: it is not one of a masked language model")
    size, (before, after) = checked_length(processor, max_length), _around(processor)
    if size is not None and size <= len(before) + len(after):
        raise DataError(f"max_length {size} leaves no room for a token beside {len(before) + len(after)} special ones")
    columns: dict[str, list[Any]] = {"input_ids": [], "attention_mask": [], "labels": [], "example": []}
    special, number = set(processor.all_special_ids), 0
    for text in rows["text"]:
        tokens = processor(text, add_special_tokens=False, verbose=False)["input_ids"]
        room = (size or len(tokens) + len(before) + len(after)) - len(before) - len(after)
        parts = [tokens[start : start + room] for start in range(0, len(tokens), room)] if tokens else []
        found = [part for part in parts if not special.issuperset(part)]
        for part in found:
            masked, labels = _masked(part, special, processor.mask_token_id)
            columns["input_ids"].append([*before, *masked, *after])
            columns["attention_mask"].append([1] * (len(before) + len(part) + len(after)))
            columns["labels"].append([*[NOT_SCORED] * len(before), *labels, *[NOT_SCORED] * len(after)])
            columns["example"].append(number)
        number += bool(found)
    if not number:
        raise DataError("there is no token to mask: every text is empty")
    return datasets.Dataset.from_dict(columns)


def asked(rows: Dataset, processor: Any, max_length: int | None) -> Dataset:
    """Cut texts into windows as they stand: `labels` are -100 but where a text itself has the mask token.

    Gives `row`, the row that a window is of, besides.
    """
    import datasets

    size, (before, after) = checked_length(processor, max_length), _around(processor)
    columns: dict[str, list[Any]] = {"input_ids": [], "attention_mask": [], "labels": [], "row": []}
    for row, text in enumerate(rows["text"]):
        tokens = processor(text, add_special_tokens=False, verbose=False)["input_ids"]
        room = (size or len(tokens) + len(before) + len(after)) - len(before) - len(after)
        for start in range(0, len(tokens), room):
            window = [*before, *tokens[start : start + room], *after]
            columns["input_ids"].append(window)
            columns["attention_mask"].append([1] * len(window))
            columns["labels"].append([id if id == processor.mask_token_id else NOT_SCORED for id in window])
            columns["row"].append(row)
    return datasets.Dataset.from_dict(columns)


def unfit(row: Mapping[str, Any], processor: Any) -> str | None:
    """Look for the mask token."""
    mask = processor.mask_token
    return None if mask and mask in row["text"] else f"text has no {mask or 'mask token'}: there is nothing to fill in"


def classes(processor: Any) -> list[str]:
    """Give every token as text."""
    return [processor.decode([id]).strip() for id in range(len(processor))]


def collate(processor: Any) -> Callable[[list[dict[str, Any]]], dict[str, Any]]:
    """Pad a list of windows to the longest of them, on the tokenizer's side."""
    return by_position(processor, BESIDES, NOT_SCORED)


def scored(logits: torch.Tensor, labels: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Pick the logits of masked tokens, and these tokens: (N, V), (N,)."""
    here = labels != NOT_SCORED
    return logits[here], labels[here]


def protocol(prepared: Dataset, rows: Dataset, processor: Any, max_length: int | None) -> dict[str, str | int]:
    """Say what was masked, so that a figure can be compared with others."""
    return {
        "context length": checked_length(processor, max_length) or "any",
        "windows": len(prepared),
        "masked": f"{SHARE:.0%} of a window's tokens, drawn from these tokens",
        "masked tokens": sum(label != NOT_SCORED for label in chain.from_iterable(prepared["labels"])),
    }


def _masked(tokens: Sequence[int], special: set[int], mask: int) -> tuple[list[int], list[int]]:
    """Mask some of a window's tokens; give them and their labels."""
    import hashlib

    import numpy as np

    places = [place for place, token in enumerate(tokens) if token not in special]
    content = np.array(tokens, dtype=np.int64).tobytes()
    draw = np.random.default_rng(int.from_bytes(hashlib.blake2b(content, digest_size=8).digest(), "little"))
    chosen = set(draw.choice(places, max(1, round(SHARE * len(places))), replace=False).tolist())
    labels = [token if place in chosen else NOT_SCORED for place, token in enumerate(tokens)]
    return [mask if place in chosen else token for place, token in enumerate(tokens)], labels


def _around(processor: Any) -> tuple[list[int], list[int]]:
    """Find what the tokenizer puts before and after every text."""
    bare = processor("a", add_special_tokens=False)["input_ids"]
    whole = list(processor("a")["input_ids"])
    places = range(len(whole) - len(bare) + 1)
    at = next((at for at in places if whole[at : at + len(bare)] == bare), 0)
    return whole[:at], whole[at + len(bare) :]
