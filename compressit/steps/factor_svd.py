"""Put two thin matrices in the place of each, whose product gives nearest to what it gave: low rank.

A singular value decomposition in the coordinates of the inputs that calibration data shows (SVD-LLM, Wang et al. 2024,
arXiv:2403.07378): the best product of its rank for the outputs, where the plain decomposition (`whiten: false`) is the
best for the weights, which nobody asks about. In one walk through the blocks, each seeing what those before it have
become. A matrix whose two would not be smaller stays as it is.

`compressit.load` opens the checkpoint, as plain transformers knows no such layers; exports open anywhere. Train with
`distill` afterwards: what is lost comes back fast. Cut heads, neurons and blocks before.

Recipe::

    - step: factor_svd
      sparsity: 0.2
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar, Self

from pydantic import Field, model_validator

from compressit import anatomy, checkpoint
from compressit import model as models
from compressit.algorithms.lowrank import Spectrum, pays, rank_of_share, spectrum
from compressit.anatomy import factoring
from compressit.data.walking import Block, Group
from compressit.data.walking.statistics import Gram
from compressit.errors import RecipeError, StepError
from compressit.model import Model
from compressit.model.matrices import Matrix
from compressit.steps import Dial, Fact, Notes, StepContext, sparsity
from compressit.steps._walking import WalkingConfig, each_group
from compressit.weights import Weight, Weights

if TYPE_CHECKING:
    import torch


class Config(WalkingConfig):
    """Fields of the step."""

    makes: ClassVar[frozenset[Fact]] = frozenset({Fact.SHAPES, Fact.FACTORS})
    keeps: ClassVar[frozenset[Fact]] = frozenset({Fact.SHAPES, Fact.DTYPE})

    sparsity: float | None = Field(None, gt=0, lt=1)
    """Share of each matrix's weights to save."""
    error: float | None = Field(None, gt=0, lt=1)
    """Instead: how far the outputs of each matrix may move, relative to their size; its rank follows."""
    whiten: bool = True
    """Go by the outputs on calibration data, not by the weights."""
    damping: float = Field(1e-4, gt=0, le=1)
    """Share of the Hessian's mean diagonal that is added to it."""
    include: tuple[str, ...] = ()
    """Glob patterns of layers to factor (default: every linear layer inside the blocks)."""
    exclude: tuple[str, ...] = ()
    """Glob patterns of layers to leave alone."""

    @model_validator(mode="after")
    def _one_amount(self) -> Self:
        if (self.sparsity is None) == (self.error is None):
            raise ValueError("factor_svd needs either sparsity or error")
        return self

    def dial(self, table: Weights | None) -> Dial | None:
        """Turn the share."""
        return None if self.sparsity is None else Dial("sparsity", self.sparsity, sparsity)


def run(model: Model, config: Config, context: StepContext) -> Notes:
    """Factor block by block; the layers are replaced when all are done."""
    model_type = model.module.config.model_type
    chosen = model.matrices(config.include, config.exclude)
    if model.disk is not None:
        raise StepError("factor_svd needs the model in memory")
    for name, matrix in chosen.items():
        if matrix.transposed or matrix.expert is not None:
            raise StepError(
                f"{name} of {model_type} is no linear layer of its own, and can't be made two",
                hint="exclude it" if matrix.expert is not None else "this architecture can be pruned instead",
            )
    found: dict[str, tuple[torch.Tensor, torch.Tensor]] = {}
    lost = power = 0.0

    def change(block: Block, group: Group) -> None:
        nonlocal lost, power
        gram_II = group.statistic.hessian() if config.whiten and group.statistic.count else None
        for matrix in group.matrices:
            weight_OI = block.weight(matrix)
            parts = spectrum(weight_OI, gram_II, config.damping)
            rank = _rank(parts, weight_OI, config)
            if rank is None:
                continue
            reduce_RI, expand_OR = parts.factors(rank)
            energy = float(parts.values_K.square().sum())
            lost, power = lost + energy * parts.lost(rank) ** 2, power + energy
            found[matrix.name] = reduce_RI, expand_OR
            # What comes after sees the product already.
            block.put(matrix, expand_OR @ reduce_RI)

    each_group(model, chosen, config, context, Gram, change)
    anatomy.settle(model.module)
    before = sum(weight.numel() for weight in _weights(model, chosen))
    for name, factors in found.items():
        factoring.factor(model.module, name, *factors)
    saved = before - sum(_elements(model, name) for name in chosen)
    notes = {"layers": len(found), "left_whole": len(chosen) - len(found), "saved": round(saved / before, 4)}
    return {**notes, **({"relative_error": float(f"{(lost / power) ** 0.5:.3g}")} if power else {})}


def foresee(table: Weights, config: Config) -> Weights | None:
    """Give each matrix as two, where the share says how thin they are."""
    if anatomy.is_transposed(table.model_type):
        raise RecipeError(f"{table.model_type} keeps its weights transposed: they can't be made two")
    linears = table.linears()
    picked = models.matching(list(linears), config.include, config.exclude, default=table.inside_blocks)
    if config.sparsity is None:
        return None
    tensors: list[Weight] = []
    for tensor in table.tensors:
        name, _, leaf = tensor.name.rpartition(".")
        if name not in picked or leaf not in ("weight", "bias"):
            tensors.append(tensor)
            continue
        if leaf == "bias":
            tensors.append(replace(tensor, name=f"{name}.{factoring.EXPAND}.bias"))
            continue
        outputs, inputs = tensor.shape
        rank = rank_of_share(outputs, inputs, 1 - config.sparsity)
        tensors.append(replace(tensor, name=f"{name}.{factoring.REDUCE}.weight", shape=(rank, inputs)))
        tensors.append(replace(tensor, name=f"{name}.{factoring.EXPAND}.weight", shape=(outputs, rank)))
    return table.changed(tensors)


def claim(folder: Path, config: Config) -> str | None:
    """Find the pairs in the saved file, and hold their size to the share."""
    shapes = checkpoint.shapes(folder)
    ranks, whole = factoring.ranks(shapes), factoring.whole(shapes)
    if not ranks and config.sparsity is not None:
        return "no layer of the checkpoint is two"
    for name, rank in ranks.items():
        outputs, inputs = whole[f"{name}.weight"]
        most = (1 - (config.sparsity or 0)) * outputs * inputs
        if rank > 1 and rank * (outputs + inputs) > most:
            return f"{name} has {rank * (outputs + inputs):,} weights, not {most:,.0f}"
    return None


def _rank(parts: Spectrum, weight_OI: torch.Tensor, config: Config) -> int | None:
    """Choose the rank of a matrix; None where it is better left whole."""
    outputs, inputs = weight_OI.shape
    if config.error is not None:
        rank = parts.rank(config.error)
    else:
        rank = rank_of_share(outputs, inputs, 1 - (config.sparsity or 0))
    return rank if pays(outputs, inputs, rank) else None


def _weights(model: Model, chosen: dict[str, Matrix]) -> list[torch.Tensor]:
    state = model.module.state_dict(keep_vars=True)
    return [matrix.of(state) for matrix in chosen.values()]


def _elements(model: Model, name: str) -> int:
    """Count the weights of a layer, or of the two that stand for it; biases are none of them."""
    part = model.module.get_submodule(name)
    return sum(weight.numel() for weight in part.parameters() if weight.dim() == 2)
