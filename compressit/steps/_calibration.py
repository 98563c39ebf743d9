"""Calibration rows as a model takes them, batch by batch, for steps that measure."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

from compressit import data, tasks
from compressit.model import Model
from compressit.steps import StepContext

if TYPE_CHECKING:
    import torch


def batches(model: Model, size: int, context: StepContext, what: str) -> Iterator[tuple[dict[str, Any], Any]]:
    """Give the inputs of a batch and its labels, where the model is; `what` is measured, for who watches."""
    assert context.calibration is not None, "the plan refuses to measure without calibration data"
    task = tasks.load(model.task)
    # Of a long document one row is many windows.
    prepared = task.prepare(context.calibration, model.processor, context.max_length, **context.fields)
    with context.progress.bar(what, len(prepared)) as advance:
        for places, batch in data.batched(prepared, task.collate(model.processor), data.by_length(prepared), size):
            on = {key: value.to(context.device) for key, value in batch.items()}
            yield {key: value for key, value in on.items() if key != "labels"}, on.get("labels")
            advance(len(places))


def real(model: Model, inputs: Mapping[str, torch.Tensor], name: str) -> torch.Tensor | None:
    """Mark the positions of a batch that are no padding, as a block or matrix of that name sees them; None for images.

    A decoder that is given a text of its own has other positions than the encoder before it.
    """
    own = inputs.get("decoder_attention_mask") if ".decoder." in f".{name}" else None
    return tasks.positions(model.task, model.module, inputs) if own is None else own.bool()
