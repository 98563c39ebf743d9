"""Rows with a label for some of their positions -> one padded batch, labels padded as the texts are."""

from __future__ import annotations

from collections.abc import Callable, Collection
from typing import Any


def by_position(processor: Any, besides: Collection[str], nothing: int) -> Callable[[list[dict[str, Any]]], Any]:
    """Give what pads a list of rows to the longest of them, on the tokenizer's side.

    Args:
        processor: The tokenizer.
        besides: Columns that are not the model's inputs, `labels` among them.
        nothing: The label of a position that has none.
    """
    import torch

    def pad(examples: list[dict[str, Any]]) -> dict[str, Any]:
        inputs = [{key: value for key, value in example.items() if key not in besides} for example in examples]
        padded = processor.pad(inputs, return_tensors="pt")
        labels = torch.full(padded["input_ids"].shape, nothing)
        left = processor.padding_side == "left"
        for row, example in zip(labels, examples, strict=True):
            own = torch.tensor(example["labels"])
            row[len(row) - len(own) if left else 0 :][: len(own)] = own
        return {**padded, "labels": labels}

    return pad
