"""Calibration rows as a model takes them, batch by batch, for steps that measure."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from compressit import data
from compressit.model import Model
from compressit.steps import StepContext


def batches(model: Model, size: int, context: StepContext, what: str) -> Iterator[tuple[dict[str, Any], Any]]:
    """Give the inputs of a batch and its labels, where the model is; `what` is measured, for who watches."""
    assert context.calibration is not None, "the plan refuses to measure without calibration data"
    with context.progress.bar(what, len(context.calibration)) as advance:
        for places, batch in data.batches(context.calibration, model, size, context.max_length):
            on = {key: value.to(context.device) for key, value in batch.items()}
            yield {key: value for key, value in on.items() if key != "labels"}, on.get("labels")
            advance(len(places))
