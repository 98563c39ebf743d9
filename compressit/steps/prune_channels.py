"""Cut channels out between the convolutions of a ResNet's blocks, for good: less to store and less to compute.

What flows from block to block stays as wide; the channels inside are those that a basic block's second convolution
reads, or a bottleneck's second and third. With one go the filter that makes it, its place in the batch norm, and what
the next convolution reads of it. Which ones go is decided as in `prune_ffn`. Those that stay make up for them by least
squares over patches of calibration pictures, and the next batch norm for what was always there. config.json has no word
for the sizes: `compressit.load` opens the checkpoint, and an export opens anywhere. Leave time to distil or finetune.

Most channels are in the last stages, and most multiplications in the first, where pictures are large. `budget:
multiplications` cuts a share of these, and of channels those first that matter least for what they cost.

A small ResNet that tells 0.990 of 599 digits (three seeds, without training) tells 0.991 when half of its channels go,
which leaves 68% of the multiplications, and 0.849 without the least squares. With half of the multiplications left it
tells 0.990 by `budget`, and 0.986 by chance, the same share everywhere (0.153 without the least squares); with 29% left
0.972, and 0.948 by chance. A ResNet-18 with half of its multiplications takes 0.5 times as long on onnxruntime, and
0.65 times on torch, for 224 x 224 pixels on one thread (`tests/benchmarks/bench_channels.py`).

Recipe::

    - step: prune_channels
      sparsity: 0.3
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Literal

from pydantic import Field, model_validator

from compressit import anatomy
from compressit.errors import RecipeError
from compressit.model import Model, counting
from compressit.steps import Notes, StepContext, Unsaid
from compressit.steps._cutting import BlockConfig, by_number, cut, even, final, nothing
from compressit.steps._importance import Units
from compressit.weights import Weight, Weights

if TYPE_CHECKING:
    import torch


class Config(BlockConfig):
    """Fields of the step."""

    budget: Literal["channels", "multiplications"] = "channels"
    """What `sparsity` is a share of: channels inside the blocks, or what the blocks multiply for a picture."""
    multiple: int = Field(8, ge=1)
    """Leave a multiple of so many channels between any two convolutions: processors are faster at round numbers."""

    @model_validator(mode="after")
    def _one_way(self) -> Config:
        if self.uniform and self.budget == "multiplications":
            raise ValueError("uniform cuts the same share of channels everywhere: it goes with budget: channels")
        return self

    @property
    def unit(self) -> int:
        """How many channels stay or go together."""
        return self.multiple

    def unsaid(self, end: Weights | None) -> Unsaid | None:
        """Name the channels."""
        return Unsaid("config.json has no word for channels between convolutions", sure=True)


def run(model: Model, config: Config, context: StepContext) -> Notes:
    """Cut channels out, in place."""
    if not units(model.module):
        raise nothing(config.step, model.module.config.model_type)
    if config.budget == "channels":
        return cut(model, config, context, units, by_number(config))
    whole = sum(counting.each(model.module, model.processor).values())

    def pick(
        before: list[int], found: Sequence[Units], scores: Sequence[torch.Tensor], share: float
    ) -> list[list[int]]:
        made = counting.each(model.module, model.processor)
        if config.importance == "random":
            # By chance alone: what is dear is no likelier to go.
            ends = [_ends(model.module, each) for each in found]
            scores = [score * (made[up] + made[down]) for score, (up, down) in zip(scores, ends, strict=True)]
        return cheapest(model.module, found, scores, made, config.multiple, whole * (1 - share))

    notes = cut(model, config, context, units, pick)
    left = sum(counting.each(model.module, model.processor).values())
    return {**notes, "multiplications_left": round(left / whole, 4)}


def cheapest(
    module: Any,
    found: Sequence[Units],
    scores: Sequence[torch.Tensor],
    made: Mapping[str, int],
    step: int,
    budget: float,
) -> list[list[int]]:
    """Pick those that stay: the least important for their cost go first, until the rest makes no more than a budget.

    Args:
        module: It has the channels.
        found: Where they are.
        scores: Importance, (count,) for each of `found`.
        made: Multiplications of every convolution inside the blocks.
        step: How many channels go together.
        budget: Multiplications that may be left.

    Raises:
        RecipeError: what has to stay makes more.
    """
    import torch

    ends = [_ends(module, each) for each in found]
    orders = [torch.argsort(score, stable=True) for score in scores]
    offers = []
    for place, (score, order, (up, down)) in enumerate(zip(scores, orders, ends, strict=True)):
        # What doesn't fill a step goes first, so that a multiple of it stays.
        cuts = range(len(score) % step or step, len(score) - step + 1, step)
        for start, stop in zip((0, *cuts), cuts, strict=False):
            cost = (made[up] + made[down]) / len(score)
            offers.append((float(score[order[start:stop]].mean()) / cost, place, stop))
    gone = [0] * len(found)

    def total() -> float:
        # A convolution between two others loses at both ends.
        left: dict[str, float] = dict(made)
        for each, own, stop in zip(found, ends, gone, strict=True):
            for name in own:
                left[name] *= 1 - stop / each.count
        return sum(left.values())

    for _, place, stop in sorted(offers):
        if total() <= budget:
            break
        gone[place] = stop
    if total() > budget:
        raise RecipeError(
            f"prune_channels: {step} channels between any two convolutions still make {total() / budget:.1f} times the "
            f"multiplications that the budget leaves",
            hint="lower sparsity, or multiple",
        )
    return [sorted(order[stop:].tolist()) for order, stop in zip(orders, gone, strict=True)]


def _ends(module: Any, channels: Units) -> tuple[str, str]:
    """Name the convolutions that give and read some channels."""
    link = anatomy.link(module, channels.matrix)
    return link.up, link.down


def foresee(before: Weights, config: Config) -> Weights:
    """Shrink the convolutions and norms in the table, as if no two differed in the share they lose."""
    counts = located(before)
    if not counts:
        raise nothing(config.step, before.model_type)
    if config.budget == "multiplications":
        stay = even([*counts.values()], config.sparsity, config.multiple, same=True)
    else:
        stay = final([*counts.values()], config)
    left = dict(zip(counts, stay, strict=True))

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
