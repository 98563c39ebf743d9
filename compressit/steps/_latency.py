"""How long a model takes with some of its heads and neurons gone, timed without cutting it."""

from __future__ import annotations

import copy
import time
from collections.abc import Mapping, Sequence
from statistics import median
from typing import TYPE_CHECKING, Any

from compressit import data
from compressit.model import Model
from compressit.steps import StepContext
from compressit.steps._cutting import take_out
from compressit.steps._importance import Units

if TYPE_CHECKING:
    import torch

RUNS = 15
"""Times each model is run, in turns."""


def without(module: Any, units: Sequence[Units], stay: Sequence[Sequence[int]]) -> Any:
    """Copy a module and cut the copy; what is not cut shares its memory with the module."""
    held = [*module.parameters(), *module.buffers()]
    found = copy.deepcopy(module, {id(tensor): tensor for tensor in held})
    for each, keep in zip(units, stay, strict=True):
        take_out(found, each, [keep] * len(each.members))
    return found


def batch(model: Model, size: int, length: int, context: StepContext) -> dict[str, torch.Tensor]:
    """Make a batch of calibration rows, texts brought to one length without padding."""
    import torch

    assert context.calibration is not None, "the plan refuses to measure without calibration data"
    rows = context.calibration.select(range(min(size, len(context.calibration))))
    places, found = next(data.batches(rows, model, size, context.max_length, **context.fields))
    again = torch.arange(size) % len(places)
    longest = getattr(model.processor, "model_max_length", length)

    def fitted(value: torch.Tensor) -> torch.Tensor:
        value = value[again]
        if value.dim() != 2:
            return value
        wide = min(length, longest)
        return value.repeat(1, -(-wide // value.shape[1]))[:, :wide]

    inputs = {name: fitted(value) for name, value in found.items() if name != "labels"}
    end = getattr(model.module.config, "eos_token_id", None)
    if model.module.config.is_encoder_decoder and isinstance(end, int):
        # Classifiers behind a decoder read the one end of a text, which was repeated or cut off.
        ids = inputs["input_ids"]
        ids[ids == end] = (end + 1) % model.module.config.vocab_size
        ids[:, -1] = end
    for name in inputs:
        if name.endswith("attention_mask"):
            inputs[name] = torch.ones_like(inputs[name])
    return {name: value.to(context.device) for name, value in inputs.items()}


def seconds(modules: Sequence[Any], inputs: Mapping[str, torch.Tensor]) -> list[float]:
    """Time modules in turns on one batch; the median of each."""
    import torch

    found: list[list[float]] = [[] for _ in modules]
    with torch.inference_mode():
        for _ in range(RUNS + 1):
            for module, own in zip(modules, found, strict=True):
                _wait(inputs)
                begun = time.perf_counter()
                module(**inputs)
                _wait(inputs)
                own.append(time.perf_counter() - begun)
    # The first run of each warms up.
    return [median(own[1:]) for own in found]


def _wait(inputs: Mapping[str, torch.Tensor]) -> None:
    import torch

    if next(iter(inputs.values())).is_cuda:
        torch.cuda.synchronize()
