"""Shift what makes a layer's inputs hard to round into its weights, ahead of a quantization of both.

SmoothQuant (Xiao et al. 2023, arXiv:2211.10438): a few channels of what flows through a large model are a hundred times
as large as the others, and one scale for a whole token leaves the others few levels. Each channel is divided by
s = max|x|^alpha / max|w|^(1 - alpha), and the weights that read it are multiplied by it. The division is folded into
the norm ahead, into the matrix that makes the values of the attention, or into the ungated half of a gated network, so
that nothing is computed in addition, and the model says what it said. Nothing is quantized here.

Norms can be folded into only where matrices alone read them: not in BERT and its kin, whose blocks add what a norm
gives to what they give; there the values are scaled, and nothing else.

Recipe::

    - step: smooth
      alpha: 0.5
"""

from __future__ import annotations

from typing import ClassVar, Literal

from pydantic import Field

from compressit.algorithms import scaling
from compressit.anatomy import Fold
from compressit.data.walking import Block, Group
from compressit.data.walking.statistics import Peaks
from compressit.model import Model
from compressit.steps import Fact, Notes, StepContext
from compressit.steps._walking import MeasuringConfig, each_fold

__all__ = ["Config", "run"]


class Config(MeasuringConfig):
    """Fields of the step."""

    keeps: ClassVar[frozenset[Fact]] = frozenset({Fact.SHAPES, Fact.SPARSITY, Fact.DTYPE})
    streams: ClassVar[bool] = True
    folds: ClassVar[bool] = True

    alpha: float = Field(0.5, ge=0, le=1)
    """Share of the difficulty that weights take over from inputs."""
    into: tuple[Literal["norms", "values", "neurons"], ...] = ("norms", "values", "neurons")
    """What scales are folded into: norms ahead of matrices, values of attentions, neurons of gated networks."""
    include: tuple[str, ...] = ()
    """Glob patterns of layers whose inputs are smoothed (default: every linear layer inside the blocks)."""
    exclude: tuple[str, ...] = ()
    """Glob patterns of layers to leave alone, unless they read what others do."""


def run(model: Model, config: Config, context: StepContext) -> Notes:
    """Fold scales block by block."""
    import torch

    def scale(block: Block, fold: Fold, groups: list[Group]) -> torch.Tensor:
        seen_I = torch.stack([group.statistic.largest_I for group in groups]).amax(0)
        weights = [block.weight(matrix).abs().amax(0) for group in groups for matrix in group.matrices]
        weight_C = fold.gather(torch.stack(weights).amax(0)).amax(-1)
        return scaling.smoothing(fold.gather(seen_I).amax(-1), weight_C, config.alpha)

    chosen = model.matrices(config.include, config.exclude)
    return each_fold(model, chosen, config, context, Peaks, scale)
