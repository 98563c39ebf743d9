"""Let the weights that are left make up for those that are zero, block by block, with no training.

After `prune_magnitude` or `prune_wanda`: which weights are zero stays, and all others move at once to where each layer
gives most nearly what the original's weights would give of what it is given now, by least squares on calibration data
(`prune_sparsegpt` does so by itself). That brings more back than a cleverer choice of what goes (Boza 2024,
arXiv:2401.02938).

Layers that aren't of the original's shape any more stay as they are.

Recipe::

    - step: refit
      damping: 0.01
"""

from __future__ import annotations

from typing import ClassVar

from pydantic import Field

from compressit.algorithms import hessian
from compressit.algorithms.refit import refit_around_zeros
from compressit.data.walking import Block, Group
from compressit.data.walking.statistics import Gram
from compressit.errors import StepError
from compressit.model import Model
from compressit.steps import Fact, Need, Notes, StepContext
from compressit.steps._walking import WalkingConfig, each_group

FEW = 0.1
"""Tokens for each input below which a Hessian says too little."""


class Config(WalkingConfig):
    """Fields of the step."""

    keeps: ClassVar[frozenset[Fact]] = frozenset({Fact.SHAPES, Fact.SPARSITY, Fact.DTYPE, Fact.FACTORS})

    rounds: int = Field(20, ge=1, le=1000)
    """Rounds of conjugate gradients."""
    damping: float = Field(0.01, gt=0, le=1)
    """Share of the Hessian's mean diagonal that is added to it."""
    include: tuple[str, ...] = ()
    """Glob patterns of layers to refit (default: every linear layer inside the blocks that holds zeros)."""
    exclude: tuple[str, ...] = ()
    """Glob patterns of layers to leave alone."""

    def needs(self) -> frozenset[Need]:
        """Ask for calibration data, and for the weights as they were."""
        return super().needs() | {Need.TEACHER}


def run(model: Model, config: Config, context: StepContext) -> Notes:
    """Refit block by block."""
    original = context.teacher(None)
    if len(original.blocks()) != len(model.blocks()):
        raise StepError(
            f"the model has {len(model.blocks())} blocks and the original {len(original.blocks())}: which is which?",
            hint="put refit before drop_layers",
        )
    state, before = (each.module.state_dict(keep_vars=True) for each in (model, original))
    wanted = original.matrices(("*",))
    chosen = {
        name: matrix
        for name, matrix in model.matrices(config.include, config.exclude).items()
        if name in wanted
        and wanted[name].of(before).shape == matrix.of(state).shape
        and bool((matrix.of(state) == 0).any())
    }
    if not chosen:
        raise StepError("no layer holds zeros and has the original's shape", hint="put refit after a step that prunes")
    starved = 0

    def change(block: Block, group: Group) -> None:
        nonlocal starved
        for matrix in group.matrices:
            pruned_OI = block.weight(matrix)
            if group.statistic.count < FEW * pruned_OI.shape[1]:
                starved += 1
                continue
            whole_OI = wanted[matrix.name].of(before).detach().to(pruned_OI)
            damped_II = hessian.damped(group.statistic.hessian(), config.damping)
            block.put(matrix, refit_around_zeros(pruned_OI, whole_OI, damped_II, config.rounds))

    each_group(model, chosen, config, context, Gram, change)
    return {"layers": len(chosen) - starved, **({"starved": starved} if starved else {})}
