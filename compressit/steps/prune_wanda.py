"""Zero the weights whose size times the norm of their input is smallest, row by row.

Sun et al. 2023, arXiv:2306.11695. Needs no training and no gradients; at 50% it is nearly as good as SparseGPT on large
models, and worse on small ones and for N:M. Zeros alone make nothing smaller or faster on most runtimes.

Recipe::

    - step: prune_wanda
      sparsity: 0.5
"""

from __future__ import annotations

from typing import Literal

from compressit.algorithms import masks
from compressit.data.walking import Block, Group
from compressit.data.walking.statistics import Norms
from compressit.model import Model
from compressit.steps import Notes, StepContext
from compressit.steps._pruning import PruningConfig, claim, foresee, remains, shares
from compressit.steps._walking import WalkingConfig, each_group

__all__ = ["Config", "claim", "foresee", "remains", "run"]


class Config(WalkingConfig, PruningConfig):
    """Fields of the step."""

    sequential: bool = False
    """Let the matrices of a block see what those before them in the block have become: nothing here makes up for it."""
    precision: Literal["auto", "float32", "bfloat16"] = "auto"
    """Arithmetic of the forward passes; `auto` is float32 for weights that are stored so, for a rounded input changes
    which weights go, and elsewhere bfloat16 where the processor has it. Statistics are float32."""


def run(model: Model, config: Config, context: StepContext) -> Notes:
    """Prune block by block."""
    import torch

    if config.precision == "auto" and model.module.dtype == torch.float32:
        config = config.model_copy(update={"precision": "float32"})
    chosen = model.matrices(config.include, config.exclude)
    share = shares(model, chosen, config, context)
    zeros = total = 0

    def change(block: Block, group: Group) -> None:
        nonlocal zeros, total
        norms_I = group.statistic.squares_I.sqrt() if group.statistic.count else group.statistic.squares_I + 1
        for matrix in group.matrices:
            weight_OI = block.weight(matrix)
            score_OI = weight_OI.abs() * norms_I
            if config.pattern is not None:
                mask_OI = masks.n_of_m(score_OI, *config.kept)
            else:
                mask_OI = masks.smallest_of_rows(score_OI, share[matrix.name])
            block.put(matrix, weight_OI.masked_fill_(mask_OI, 0))
            zeros, total = zeros + int((weight_OI == 0).sum()), total + weight_OI.numel()

    each_group(model, chosen, config, context, Norms, change)
    return {"layers": len(chosen), **({"sparsity": round(zeros / total, 4)} if total else {})}
