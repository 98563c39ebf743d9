"""Round weights to integers so that the layers' outputs stay, as far as calibration data tells.

GPTQ (Frantar et al. 2023, arXiv:2210.17323): inputs are rounded one after the other, and those that are left make up
for each error, by the Hessian of the output error. Below 4 bits every weight is then looked at again, given what the
others have become (QuantEase, Behdin et al. 2023, arXiv:2309.01885). Without training, in one walk through the blocks;
a row that ends worse than round-to-nearest on the calibration data takes round-to-nearest, and weights that are zero
stay zero. At 4 bits it loses little more than nothing with groups of 128; 3 bits want groups, 2 bits want small groups
and still hurt.
The checkpoint is saved in the compressed-tensors format, which plain transformers and vLLM open. In plain PyTorch on a
CPU it is smaller, not faster. Layers may differ, by `rules` or under a budget, as with `quantize_rtn`.

Recipe::

    - step: quantize_gptq
      bits: 4
      group_size: 32
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal

from pydantic import Field

from compressit.algorithms import hessian
from compressit.algorithms.descent import descend
from compressit.algorithms.gptq import better, gptq, nearest
from compressit.data.walking import Block, Group
from compressit.data.walking.statistics import Gram
from compressit.model import Model
from compressit.model.matrices import Matrix
from compressit.steps import Notes, StepContext
from compressit.steps._bits import counted, divided, settled
from compressit.steps._quantizing import QuantizingConfig, chosen, claim, foresee, quantized
from compressit.steps._walking import WalkingConfig, each_group

__all__ = ["Config", "claim", "foresee", "run"]

FEW = 0.1
"""Tokens for each input below which a Hessian says too little."""
PASSES = 3
"""Over the inputs, by default, below 4 bits: one gains half of what three do."""


class Config(WalkingConfig, QuantizingConfig):
    """Fields of the step."""

    bits: int = Field(4, ge=2, le=8)
    """Bits of a weight."""
    clip: Literal["auto", "none", "mse"] = "auto"
    """Whether to search for the range of least error, weighed by the inputs' size; `auto` does from 3 bits up."""
    order: Literal["static", "none"] = "static"
    """Round the inputs that matter most first, on grids found beforehand; or as they lie, on grids found on the way."""
    damping: float = Field(0.01, gt=0, le=1)
    """Share of the Hessian's mean diagonal that is added to it."""

    passes: int | None = Field(None, ge=0, le=100)
    """Times that every weight is looked at again (default: 3 below 4 bits; none from 4 bits on, where nothing is gained
    by it)."""

    @property
    def descends(self) -> int:
        """Passes of coordinate descent."""
        return (PASSES if self.bits < 4 else 0) if self.passes is None else self.passes

    @property
    def searches(self) -> bool:
        """Whether ranges are searched: at 2 bits those of least error are too narrow for weights that make up."""
        return self.bits > 2 if self.clip == "auto" else self.clip == "mse"


def run(model: Model, config: Config, context: StepContext) -> Notes:
    """Quantize block by block."""
    matrices = chosen(model, config)
    return round_each(model, matrices, settled(model, matrices, config, context), config, context)


def round_each(
    model: Model, matrices: Mapping[str, Matrix], own: Mapping[str, Config], config: Config, context: StepContext
) -> Notes:
    """Quantize matrices block by block, each by its own settings."""
    starved: list[str] = []
    raised: dict[str, float] = {}

    def change(block: Block, group: Group) -> None:
        for settings, part in divided(group, own):
            _quantize(block, part, settings, starved, raised)

    each_group(model, matrices, config, context, Gram, change)
    notes: dict[str, float | int | str | bool] = {"layers": len(matrices), **counted(own)}
    if starved:
        context.progress.say(
            f"warning: {len(starved)} layers saw too few tokens and were rounded to nearest: {starved[0]}"
        )
        notes |= {"starved": len(starved), "first_starved": starved[0]}
    if raised:
        notes |= {"damping_raised": len(raised), "largest_damping": max(raised.values())}
    return notes


def _quantize(block: Block, group: Group, config: Config, starved: list[str], raised: dict[str, float]) -> None:
    import torch

    inputs = group.statistic.sum_II.shape[0]
    if group.statistic.count < FEW * inputs:
        for matrix in group.matrices:
            found = nearest(block.weight(matrix), config.grid(block.dtype(matrix)))
            block.quantize(matrix, quantized(found, config.scheme, block.dtype(matrix)))
            starved.append(matrix.name)
        return
    gram_II = group.statistic.hessian()
    order_I = torch.argsort(gram_II.diagonal(), descending=True, stable=True) if config.order == "static" else None
    ordered_II = gram_II if order_I is None else gram_II[order_I][:, order_I]
    upper_II, damping = hessian.factor(ordered_II, config.damping)
    # Rows are independent given H: matrices that share it are rounded as one.
    weights = [block.weight(matrix) for matrix in group.matrices]
    dtype = block.dtype(group.matrices[0])
    whole_OI = torch.cat(weights)
    found = gptq(whole_OI, gram_II, upper_II, order_I, config.grid(dtype))
    if config.descends:
        lower = descend(found, whole_OI, hessian.damped(gram_II, damping), config.bits, config.descends)
        found = better(lower, found, whole_OI, gram_II)
    at = 0
    for matrix, weight in zip(group.matrices, weights, strict=True):
        block.quantize(matrix, quantized(found.rows(at, at + len(weight)), config.scheme, dtype))
        at += len(weight)
        if damping > config.damping:
            raised[matrix.name] = damping
