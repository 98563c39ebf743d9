"""Zero the weights of the linear layers that are nearest to zero.

Either a share of them (`sparsity`), counted in each layer or over all layers together, or N of every M consecutive
inputs kept (`pattern: "2:4"`, Mishra et al. 2021, arXiv:2104.08378). Every later training step keeps the zeros. Zeros
alone make nothing smaller or faster on most runtimes; the report's `nonzero` shows them.

Han et al. 2015, arXiv:1506.02626.

Recipe::

    - step: prune_magnitude
      sparsity: 0.5
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from pydantic import model_validator

from compressit.algorithms import masks
from compressit.model import Model
from compressit.model.matrices import Matrix
from compressit.model.parts import visits
from compressit.steps import Notes, StepContext, _pruning
from compressit.steps._pruning import PruningConfig, foresee, shares

if TYPE_CHECKING:
    import torch

__all__ = ["Config", "claim", "foresee", "remains", "run"]


class Config(PruningConfig):
    """Fields of the step."""

    scope: Literal["layer", "global"] = "layer"
    """Whether each layer loses the same share, or all layers together lose it, some more than others."""

    @model_validator(mode="after")
    def _pattern_in_every_layer(self) -> Config:
        if self.pattern is not None and self.scope == "global":
            raise ValueError("a pattern holds in every layer: scope: global goes with sparsity")
        if self.spread == "measured" and self.scope == "global":
            raise ValueError("scope: global lets sizes decide how much each layer loses, spread: measured the answers")
        return self


def run(model: Model, config: Config, context: StepContext) -> Notes:
    """Zero part by part."""
    chosen = model.matrices(config.include, config.exclude)
    share = shares(model, chosen, config, context)
    ranking = _rank(model, chosen, config.sparsity or 0) if config.scope == "global" else None
    zeros = total = 0
    with context.progress.bar(config.step, len(chosen)) as advance:
        for part in visits(model, chosen, context.scratch):
            for matrix in part.within(chosen):
                weight_OI = part.weight(matrix)
                mask_OI = (
                    ranking.mark(matrix.name, weight_OI.abs())
                    if ranking
                    else _mask(weight_OI.abs(), config, share[matrix.name])
                )
                part.put(matrix, weight_OI.masked_fill_(mask_OI, 0))
                zeros, total = zeros + int((weight_OI == 0).sum()), total + weight_OI.numel()
                advance(1)
    return {"layers": len(chosen), **({"sparsity": round(zeros / total, 4)} if total else {})}


def claim(folder: Path, config: Config) -> str | None:
    """Count the zeros of the layers in the saved files."""
    return _pruning.claim(folder, config, overall=config.scope == "global")


def remains(stages: Sequence[Path], config: Config) -> str | None:
    """Find the zeros again in what later steps have left of the layers."""
    return _pruning.remains(stages, config, overall=config.scope == "global")


def _mask(score_OI: torch.Tensor, config: Config, share: float) -> torch.Tensor:
    if config.pattern is not None:
        return masks.n_of_m(score_OI, *config.kept)
    return masks.smallest([score_OI], share)[0]


def _rank(model: Model, chosen: dict[str, Matrix], share: float) -> masks.Ranking:
    """Find the threshold over all layers, in passes that hold one part at a time."""
    found = masks.Ranking(share)
    parts = model.parts()
    for _ in range(found.PASSES):
        for part, tensors in parts.items():
            wanted = {matrix.parameter for matrix in chosen.values()} & {*tensors}
            read = model.read(part, sorted(wanted))
            for matrix in read.within(chosen):
                found.see(matrix.name, read.weight(matrix).abs())
        found.narrow()
    return found
