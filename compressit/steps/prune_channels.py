"""Cut channels out between the convolutions of a ResNet's blocks, for good: less to store and less to compute.

What flows from block to block stays as wide; the channels inside are those that a basic block's second convolution
reads, or a bottleneck's second and third. With one go the filter that makes it, its place in the batch norm, and what
the next convolution reads of it. Which ones go is decided as in `prune_ffn`. Those that stay make up for them by least
squares over patches of calibration pictures, and the next batch norm for what was always there. config.json has no word
for the sizes: `compressit.load` opens the checkpoint, and an export opens anywhere. Leave time to distil or finetune.

Recipe::

    - step: prune_channels
      sparsity: 0.3
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from pydantic import Field

from compressit import anatomy
from compressit.model import Model
from compressit.steps import Notes, StepContext
from compressit.steps._cutting import BlockConfig, by_number, cut, final, nothing
from compressit.steps._importance import Units
from compressit.weights import Weight, Weights


class Config(BlockConfig):
    """Fields of the step."""

    multiple: int = Field(8, ge=1)
    """Leave a multiple of so many channels between any two convolutions: processors are faster at round numbers."""

    @property
    def unit(self) -> int:
        """How many channels stay or go together."""
        return self.multiple


def run(model: Model, config: Config, context: StepContext) -> Notes:
    """Cut channels out, in place."""
    if not units(model.module):
        raise nothing(config.step, model.module.config.model_type)
    return cut(model, config, context, units, by_number(config))


def foresee(before: Weights, config: Config) -> Weights:
    """Shrink the convolutions and norms in the table, as if no two differed in the share they lose."""
    counts = located(before)
    if not counts:
        raise nothing(config.step, before.model_type)
    left = dict(zip(counts, final([*counts.values()], config), strict=True))

    def smaller(tensor: Weight) -> Weight:
        shape = list(tensor.shape)
        for where, axis in anatomy.between_axes(before.model_type, tensor.name):
            if where in left:
                shape[axis] = left[where]
        return replace(tensor, shape=tuple(shape))

    return before.changed(map(smaller, before.tensors))


def located(before: Weights) -> Mapping[str, int]:
    """Count the channels in the table, by the convolution that reads them."""
    return {
        where: tensor.shape[axis]
        for tensor in before.tensors
        for where, axis in anatomy.between_axes(before.model_type, tensor.name)
        if axis == 1
    }


def units(module: Any) -> list[Units]:
    """Find the channels of a module."""
    found = []
    for block, _ in anatomy.blocks(module):
        for name in anatomy.between(module, block):
            _, channels, high, wide = module.get_submodule(name).weight.shape
            found.append(Units(block, "channels", name, channels, high * wide))
    return found
