"""Train weights on the very integers of few bits that they are stored as, by a teacher or by labels.

For 4 bits and below, where rounding what was trained otherwise loses too much. Each pass rounds the weights of the
linear layers to their grid, and gradients pass the rounding as if it were not there, to the weights and to the grid's
scales (Esser et al. 2020, arXiv:1902.08153). What the last update leaves is what is saved, number for number, in the
compressed-tensors format, which plain transformers opens. Weights that are zero stay zero.

A Llama of 5.8 million weights, trained on code, in groups of 128, distilled from itself for 64 updates of 2,048 tokens
at a rate of 1e-3 (alpha: 0): of a perplexity of 24.5, 2 bits make 42.8 rounded to nearest, 28.2 by `quantize_gptq` and
26.1 here; 3 bits 26.6, 25.0 and 25.0, so that there so short a training gains nothing over GPTQ. One seed.

All else is as in `distill`: the teacher is the model as the recipe found it. For inputs of 8 bits, and an export to
OpenVINO, there is `quantize_aware`.

Recipe::

    - step: quantize_qat
      bits: 2
      group_size: 32
      epochs: 1
      learning_rate: 1e-4
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping
from functools import partial
from typing import TYPE_CHECKING, Any, ClassVar

from pydantic import Field

from compressit.algorithms import rounding
from compressit.algorithms.gptq import Rounded
from compressit.errors import RecipeError, StepError
from compressit.model import Model, cast
from compressit.model.matrices import Matrix
from compressit.steps import Notes, StepContext, _sharding, distill
from compressit.steps._bits import counted, settled
from compressit.steps._quantizing import QuantizingConfig, StoringConfig, chosen, claim, foresee, quantized

if TYPE_CHECKING:
    import torch

__all__ = ["Config", "claim", "foresee", "run"]

HUNG = "compressit_grids"
"""Where scales hang on the model meanwhile, so that the trainer learns and keeps them with it."""


class Config(QuantizingConfig, distill.LearningConfig):
    """Fields of the step."""

    keeps: ClassVar = StoringConfig.keeps
    streams: ClassVar[bool] = False
    effort: ClassVar[str | None] = "epochs"

    bits: int = Field(4, ge=2, le=8)
    """Bits of a weight."""
    epochs: float = Field(1, gt=0, le=10_000)
    """Passes over the training split."""
    learning_rate: float = Field(1e-4, gt=0, le=1)
    """Peak learning rate of AdamW."""

    def streaming(self) -> bool:
        """Need the whole model, as every training does."""
        return False


def run(model: Model, config: Config, context: StepContext) -> Notes:
    """Train in place; weights are stored as integers when the model is saved."""
    import torch

    if context.processes > 1 and _sharding.asked():
        raise StepError("quantize_qat looks at whole matrices, which FSDP spreads", hint=_sharding.HINT)
    matrices = chosen(model, config)
    if stacked := [name for name, matrix in matrices.items() if matrix.expert is not None]:
        raise RecipeError(
            f"quantize_qat: {stacked[0]} lies in one tensor with other experts, which nobody rounds one by one",
            hint="quantize_gptq rounds them without training",
        )
    own, dtype = settled(model, matrices, config, context), model.module.dtype
    # Integers come from the weights as they were trained.
    cast(model.module, torch.float32)
    with _rounding(model.module, matrices, own, dtype) as grids:
        notes = distill.learn(model, config, context)
        state = {name: parameter.detach() for name, parameter in model.module.named_parameters()}
        found = {name: _rounded(matrices[name].of(state), grid, own[name], dtype) for name, grid in grids.items()}
    cast(model.module, dtype)
    state = {name: parameter.detach() for name, parameter in model.module.named_parameters()}
    for name, each in found.items():
        stored = quantized(each, own[name].scheme, dtype)
        model.quantized[name] = stored
        matrices[name].of(state).copy_(stored.weight_OI)
    return {**notes, "layers": len(matrices), **counted(own)}


@contextlib.contextmanager
def _rounding(
    module: Any, matrices: Mapping[str, Matrix], own: Mapping[str, Config], dtype: torch.dtype
) -> Iterator[dict[str, Any]]:
    """Have layers compute with rounded weights; give what holds the grid of each."""
    import torch
    from torch import nn

    grids: dict[str, Any] = {}
    for name in matrices:
        layer, config = module.get_submodule(name), own[name]
        w_OGS = rounding.grouped(layer.weight.detach(), config.group_size)
        scale_OG, zero_OG = rounding.grid(w_OGS, config.bits, symmetric=config.symmetric, search=True, dtype=dtype)
        grid = nn.Module()
        grid.scale_OG = nn.Parameter(scale_OG)
        # Else it would outweigh the weights' own where gradients are clipped.
        share = (w_OGS.shape[-1] * (2 ** (config.bits - 1) - 1)) ** -0.5
        grid.scale_OG.register_hook(partial(torch.mul, other=share))
        grid.register_buffer("zero_OG", zero_OG)
        layer.forward = partial(_as_stored, layer, grid, config, dtype)
        grids[name] = grid
    module.add_module(HUNG, nn.ModuleList(grids.values()))
    try:
        yield grids
    finally:
        delattr(module, HUNG)
        for name in matrices:
            del module.get_submodule(name).forward


def _as_stored(layer: Any, grid: Any, config: Config, dtype: torch.dtype, x: torch.Tensor) -> torch.Tensor:
    from torch.nn import functional

    w_OGS = rounding.grouped(layer.weight, config.group_size)
    read_OGS = rounding.learning(w_OGS, grid.scale_OG, grid.zero_OG, config.bits, dtype)
    return functional.linear(x, read_OGS.flatten(-2), layer.bias)


def _rounded(weight_OI: torch.Tensor, grid: Any, config: Config, dtype: torch.dtype) -> Rounded:
    w_OGS = rounding.grouped(weight_OI, config.group_size)
    scale_OG = rounding.held(grid.scale_OG.detach(), dtype)
    return Rounded(
        rounding.whole(w_OGS, scale_OG, grid.zero_OG, config.bits).flatten(-2), scale_OG, grid.zero_OG.clone()
    )
