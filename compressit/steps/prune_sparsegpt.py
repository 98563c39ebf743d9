"""Zero weights so that the layers' outputs stay, the other weights making up for those that go.

SparseGPT (Frantar & Alistarh 2023, arXiv:2301.00774): one walk through the blocks, no training. Better than Wanda on
small models, for N:M and beyond 60%. When it is decided which weights go, those that stay are refitted all together,
which costs little and leaves much less error. With `bits` the weights that stay are rounded in the sweep instead, so
that they make up for both, and the checkpoint is saved in the compressed-tensors format. Zeros alone make nothing
smaller or faster on most runtimes.

Recipe::

    - step: prune_sparsegpt
      sparsity: 0.5
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Literal

from pydantic import Field, model_validator

from compressit.algorithms import hessian
from compressit.algorithms.refit import refit_around_zeros
from compressit.algorithms.sparsegpt import jointly, sparsegpt
from compressit.data.walking import Block, Group
from compressit.data.walking.statistics import Gram
from compressit.model import Model
from compressit.steps import Fact, Notes, StepContext, _pruning, _quantizing, quantize_rtn
from compressit.steps._pruning import PruningConfig, shares
from compressit.steps._quantizing import QuantizingConfig
from compressit.steps._walking import WalkingConfig, each_group
from compressit.weights import Weights

REFIT = 6
"""Rounds by default: most of what twenty gain, for a third of the time."""


class Config(WalkingConfig, PruningConfig):
    """Fields of the step."""

    damping: float = Field(0.01, gt=0, le=1)
    """Share of the Hessian's mean diagonal that is added to it."""
    refit: int | None = Field(None, ge=0, le=1000)
    """Rounds of conjugate gradients that refit the weights that stay; 0 keeps those of the sweep (default: 6, or none
    where `bits` is given)."""
    bits: int | None = Field(None, ge=2, le=8)
    """Round the weights that stay to so many bits, too."""
    group_size: int | None = Field(None, gt=1)
    """Consecutive inputs that share a scale, where `bits` is given (default: all inputs of an output channel)."""
    symmetric: bool = True
    """Leave out zero points, where `bits` is given."""
    clip: Literal["none", "mse"] = "mse"
    """Whether to search for the range of least error, where `bits` is given."""

    @model_validator(mode="after")
    def _groups_hold_patterns(self) -> Config:
        if self.bits is not None and self.refit:
            raise ValueError("refit doesn't go with bits: it would leave the grid")
        if self.group_size is not None and self.group_size % self.kept[1]:
            raise ValueError(f"group_size {self.group_size} must be a multiple of the pattern's {self.kept[1]}")
        return self

    def idle(self) -> Mapping[str, str]:
        """Name what says how to round, where nothing is rounded."""
        rounding = {} if self.bits else dict.fromkeys(("group_size", "symmetric", "clip"), "bits")
        return {**super().idle(), **rounding}

    @property
    def rounds(self) -> int:
        """Rounds of the refit."""
        return (0 if self.bits else REFIT) if self.refit is None else self.refit

    def made(self) -> frozenset[Fact]:
        """Say what this step leaves behind with these settings."""
        return self.makes | {Fact.QUANTIZATION} if self.bits else self.makes

    @property
    def quantizing(self) -> QuantizingConfig | None:
        """The fields of the quantization, if any."""
        if self.bits is None:
            return None
        return quantize_rtn.Config(
            step=self.step,
            bits=self.bits,
            group_size=self.group_size,
            symmetric=self.symmetric,
            clip=self.clip,
            include=self.include,
            exclude=self.exclude,
        )


def run(model: Model, config: Config, context: StepContext) -> Notes:
    """Prune block by block."""
    quantizing = config.quantizing
    if quantizing is None:
        chosen = model.matrices(config.include, config.exclude)
    else:
        chosen = _quantizing.chosen(model, quantizing)
    share = shares(model, chosen, config, context)
    zeros = total = starved = 0

    def change(block: Block, group: Group) -> None:
        nonlocal zeros, total, starved
        starved += len(group.matrices) if group.statistic.count == 0 else 0
        for seen, all_of_it in _prune(block, group, config, quantizing, share):
            zeros, total = zeros + seen, total + all_of_it

    each_group(model, chosen, config, context, Gram, change)
    notes = {"layers": len(chosen), **({"sparsity": round(zeros / total, 4)} if total else {})}
    return {**notes, "starved": starved} if starved else notes


def foresee(before: Weights, config: Config) -> Weights:
    """Check patterns and shapes; give the weights their bits where they are rounded too."""
    after = _pruning.foresee(before, config)
    return _quantizing.foresee(after, config.quantizing) if config.quantizing else after


def claim(folder: Path, config: Config) -> str | None:
    """Count the zeros of the layers in the saved files, and find out how they are held."""
    broken = _pruning.claim(folder, config)
    return broken or (_quantizing.claim(folder, config.quantizing) if config.quantizing else None)


def remains(stages: Sequence[Path], config: Config) -> str | None:
    """Find the zeros again in what later steps have left of the layers."""
    return _pruning.remains(stages, config)


def _prune(
    block: Block, group: Group, config: Config, quantizing: QuantizingConfig | None, share: Mapping[str, float]
) -> list[tuple[int, int]]:
    """Prune the matrices of a group, as one: rows are independent given H; give zeros and weights of each."""
    import torch

    kept = config.kept if config.pattern else None
    weights = [block.weight(matrix) for matrix in group.matrices]
    gram_II = group.statistic.hessian()
    upper_II, damping = hessian.factor(gram_II, config.damping)
    damped_II = hessian.damped(gram_II, damping) if config.rounds else None
    counted = []
    for matrix, weight_OI in zip(group.matrices, weights, strict=True):
        if quantizing is None:
            pruned_OI = sparsegpt(weight_OI, upper_II, share=share[matrix.name], kept=kept)
            if damped_II is not None:
                pruned_OI = refit_around_zeros(pruned_OI, weight_OI, damped_II, config.rounds)
            block.put(matrix, pruned_OI)
        else:
            dtype = block.dtype(matrix)
            found = jointly(weight_OI, gram_II, upper_II, quantizing.grid(dtype), share=share[matrix.name], kept=kept)
            pruned_OI = found.weight_OI
            block.quantize(matrix, _quantizing.quantized(found, quantizing.scheme, dtype))
        counted.append((int(torch.count_nonzero(pruned_OI == 0)), pruned_OI.numel()))
    return counted
