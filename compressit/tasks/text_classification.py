"""Give each text, or pair of texts, one label.

Roles: `text`, `label`, `text_pair` for pairs, and `group` for candidates to be ranked: which of them belong together,
as one query's or one user's.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from compressit.errors import DataError
from compressit.outputs import Predictions

if TYPE_CHECKING:
    from datasets import Dataset

AUTO_CLASS = "AutoModelForSequenceClassification"
PROCESSOR_CLASS = "AutoTokenizer"
ROLES = {"text": True, "text_pair": False, "label": True, "group": False}
OUTPUT = Predictions
METRICS = ("accuracy", "agreement", "latency", "throughput", "size")


def prepare(rows: Dataset, processor: Any, max_length: int | None) -> Dataset:
    """Tokenize; a text longer than `max_length` or the model's own limit is cut, the longer one first in a pair."""
    paired, size = "text_pair" in rows.column_names, checked_length(processor, max_length)

    def tokenize(batch: dict[str, list[Any]]) -> dict[str, Any]:
        texts = (batch["text"], batch["text_pair"]) if paired else (batch["text"],)
        encoded = processor(*texts, truncation=True, max_length=size)
        return {**encoded, "labels": batch["label"]}

    return rows.map(tokenize, batched=True, remove_columns=rows.column_names, desc=None)


def collate(processor: Any) -> Callable[[list[dict[str, Any]]], dict[str, Any]]:
    """Pad a list of examples to the longest of them."""
    import torch

    def pad(examples: list[dict[str, Any]]) -> dict[str, Any]:
        labels = [example["labels"] for example in examples]
        inputs = [{key: value for key, value in example.items() if key != "labels"} for example in examples]
        return {**processor.pad(inputs, return_tensors="pt"), "labels": torch.tensor(labels)}

    return pad


def longest(processor: Any) -> int | None:
    """Tokens that the model takes; None where the tokenizer doesn't know."""
    return processor.model_max_length if processor.model_max_length < 1_000_000 else None


def checked_length(processor: Any, max_length: int | None) -> int | None:
    """Give the tokens at which texts are cut; None where neither the recipe nor the tokenizer knows.

    Raises:
        DataError: `max_length` is beyond the model's limit.
    """
    limit = longest(processor)
    if max_length is not None and limit is not None and max_length > limit:
        raise DataError(f"max_length {max_length} is beyond the {limit} tokens that the model takes")
    return max_length or limit
