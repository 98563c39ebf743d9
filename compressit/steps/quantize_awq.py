"""Round weights to integers after scaling up those whose inputs are large, where that loses less.

AWQ (Lin et al. 2024, arXiv:2306.00978): before anything is rounded, the weights that read a channel are multiplied by
a scale, and what gives the channel is divided by it. Scales are searched for, layer by layer, as those that leave the
least error in the layers' outputs over all calibration tokens, and folded into the norm ahead, into the matrix that
makes the values, or into the ungated half of a gated network: the checkpoint has nothing in addition, and weights that
are zero stay zero. Then the range of each group that leaves least error in what it gives is searched for, except for
queries and keys.

With `rounding: gptq` the scaled weights are rounded as `quantize_gptq` does, which makes up for errors, and loses
less than either alone: of a Llama of 6M parameters, in groups of 128, perplexity rises by 0.3% at 4 bits and 1.9% at
3, where GPTQ costs 0.5% and 2.2%, AWQ 0.7% and 5.0%, and rounding to nearest 1.1% and 8.8%
(`tests/benchmarks/bench_steps_lm.py`). Norms can be folded into only where matrices alone read them: not in BERT and
its kin, where the values are scaled and nothing else. The checkpoint is saved in the compressed-tensors format, which
plain transformers and vLLM open. Layers may differ, by `rules` or under a budget, as with `quantize_rtn`.

Recipe::

    - step: quantize_awq
      bits: 4
      group_size: 32
"""

from __future__ import annotations

import functools
from collections.abc import Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Literal

from pydantic import Field

from compressit import anatomy
from compressit.algorithms import rounding, scaling
from compressit.algorithms.gptq import Grid, nearest, nearest_output
from compressit.anatomy import Fold
from compressit.data.walking import Block, Group
from compressit.data.walking.statistics import Gram
from compressit.model import Model
from compressit.steps import Notes, StepContext, quantize_gptq
from compressit.steps._bits import counted, settled
from compressit.steps._quantizing import QuantizingConfig, chosen, claim, foresee, quantized
from compressit.steps._walking import WalkingConfig, each_fold, each_group

if TYPE_CHECKING:
    import torch

__all__ = ["Config", "claim", "foresee", "run"]

SAMPLE = 512
"""Outputs of a layer that scales are judged by."""


class Config(WalkingConfig, QuantizingConfig):
    """Fields of the step."""

    bits: int = Field(4, ge=2, le=8)
    """Bits of a weight."""
    rounding: Literal["nearest", "gptq"] = "nearest"
    """How the scaled weights are rounded."""
    clip: Literal["auto", "none", "mse"] = "auto"
    """Whether to search for the range of least error; `auto` does, but at 2 bits not for GPTQ."""
    into: tuple[Literal["norms", "values", "neurons"], ...] = ("norms", "values", "neurons")
    """What scales are folded into: norms ahead of matrices, values of attentions, neurons of gated networks."""
    tries: int = Field(20, ge=1, le=100)
    """Powers of the inputs' size that are tried, between 0 and 1."""

    def walks(self) -> int:
        """Say that one walk is for the scales and one for the rounding."""
        return 2

    @property
    def searches(self) -> bool:
        """Whether ranges of least error are searched for."""
        return self.clip != "none"

    @property
    def looks_for_ranges(self) -> bool:
        """Whether scales are judged with ranges of least error: it is GPTQ that has the same ones."""
        return self.rounding == "gptq" and self.second.searches

    @property
    def second(self) -> quantize_gptq.Config:
        """The fields of the rounding of a layer by itself, where it is GPTQ's."""
        shared = quantize_gptq.Config.model_fields.keys() & type(self).model_fields.keys()
        shared &= self.model_fields_set - {"rules", "average_bits", "widths"}
        return quantize_gptq.Config.model_validate({name: getattr(self, name) for name in shared})


def run(model: Model, config: Config, context: StepContext) -> Notes:
    """Scale block by block, then round block by block."""
    matrices = chosen(model, config)
    own = settled(model, matrices, config, context)
    notes = each_fold(
        model,
        matrices,
        config,
        replace(context, scratch=context.scratch / "scaled"),
        Gram,
        lambda block, fold, groups: _scale(block, fold, groups, config.tries, own),
    )
    after = replace(context, scratch=context.scratch / "rounded")
    if config.rounding == "gptq":
        second = {name: each.second for name, each in own.items()}
        return {**notes, **quantize_gptq.round_each(model, matrices, second, config.at().second, after)}
    sharp = _sharp(model)
    each_group(model, matrices, config, after, Gram, lambda block, group: _round(block, group, own, sharp))
    return {**notes, **counted(own)}


def _scale(block: Block, fold: Fold, groups: list[Group], tries: int, own: Mapping[str, Config]) -> torch.Tensor | None:
    """Search for the scale of some channels; None where nothing is gained by any."""
    import torch

    count = sum(group.statistic.count for group in groups)
    squares_I, layers = torch.zeros(()), []
    for group in groups:
        gram_II = group.statistic.hessian()
        squares_I = squares_I.to(gram_II.device) + group.statistic.count / count * gram_II.diagonal()
        for matrix in group.matrices:
            weight_OI = block.weight(matrix)
            # Outputs don't know of each other: some tell what scale is good.
            some_OI = weight_OI[:: max(1, len(weight_OI) // SAMPLE)]
            settings = own[matrix.name]
            grid = replace(settings.grid(block.dtype(matrix)), search=settings.looks_for_ranges)
            layers.append((some_OI, gram_II, grid))
    # A layer whose outputs are large is not more important for that.
    sizes = [float((weight_OI @ gram_II).mul_(weight_OI).sum()) for weight_OI, gram_II, _ in layers]

    def loss(scale_C: torch.Tensor) -> float:
        scale_I, total = fold.spread(scale_C), 0.0
        for (weight_OI, gram_II, grid), size in zip(layers, sizes, strict=True):
            rounded = functools.partial(_rounded, grid=grid)
            total += scaling.output_error(weight_OI, gram_II, scale_I, rounded) / size if size else 0.0
        return total

    seen_C = fold.gather(squares_I).mean(-1).sqrt()
    weights = torch.cat([_relative(weight_OI, grid.group_size) for weight_OI, _, grid in layers])
    tried = scaling.candidates(seen_C, fold.gather(weights.mean(0)).mean(-1), tries)
    scale_C, _, _ = scaling.searched(tried, loss)
    return None if scale_C is tried[0] else scale_C


def _rounded(weight_OI: torch.Tensor, seen_I: torch.Tensor, *, grid: Grid) -> torch.Tensor:
    return nearest(weight_OI, grid, seen_I).weight_OI


def _relative(weight_OI: torch.Tensor, group_size: int | None) -> torch.Tensor:
    """Divide weights' sizes by the largest of their group: what each is to the grid, (O, I)."""
    groups_OGS = rounding.grouped(weight_OI.abs(), group_size)
    return (groups_OGS / groups_OGS.amax(-1, keepdim=True).clamp(min=scaling.LEAST)).flatten(-2)


def _sharp(model: Model) -> set[str]:
    """Name the matrices that make queries and keys: their errors multiply, and their ranges are kept (Lin et al.)."""
    found: set[str] = set()
    for name, _ in model.blocks():
        if "self" in anatomy.attentions(model.module, name):
            query, *rest = anatomy.projections(model.module, name)
            found |= {query, rest[0]} if rest else set()
    return found


def _round(block: Block, group: Group, own: Mapping[str, Config], sharp: set[str]) -> None:
    gram_II = group.statistic.hessian() if group.statistic.count else None
    for matrix in group.matrices:
        settings, weight_OI = own[matrix.name], block.weight(matrix)
        grid = settings.grid(block.dtype(matrix))
        if gram_II is None or matrix.name in sharp:
            found = nearest(weight_OI, replace(grid, search=False))
        else:
            found = nearest_output(weight_OI, grid, gram_II)
        block.quantize(matrix, quantized(found, settings.scheme, block.dtype(matrix)))
