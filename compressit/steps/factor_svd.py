"""Put two thin matrices in the place of each, which give nearest to what it gave: low rank.

A singular value decomposition in the coordinates of the inputs that calibration data shows (SVD-LLM, Wang et al. 2024,
arXiv:2403.07378): the best matrix of its rank for the outputs, where the plain decomposition (`whiten: false`) is the
best for the weights, which nobody asks about. In one walk through the blocks, each seeing what those before it have
become. R of the matrix's rows are kept, and the others made of what these give, so that rank R takes R * (O + I - R)
weights and not R * (O + I) (pivoting factorization, Zhao et al. 2025, arXiv:2501.19090). What is of full rank stays.

`spread: measured` saves more in matrices that the answers feel less.
`compressit.load` opens the checkpoint, as plain transformers knows no such layers; exports to ONNX, OpenVINO and
ExecuTorch open anywhere, but none of them is for models that write text, and GGUF holds no such layers. Train with
`distill` afterwards: what is lost comes back fast. Cut heads, neurons and blocks before.

Recipe::

    - step: factor_svd
      sparsity: 0.2
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar, Literal, Self

from pydantic import Field, model_validator

from compressit import anatomy, checkpoint, ranks
from compressit import model as models
from compressit.algorithms.lowrank import Spectrum, rank_of_share, size, spectrum
from compressit.anatomy import factoring
from compressit.data.walking import Block, Group
from compressit.data.walking.statistics import Gram
from compressit.errors import RecipeError, StepError
from compressit.model import Model, disk
from compressit.model.matrices import Matrix
from compressit.steps import Dial, Fact, Notes, StepContext, Unsaid, sparsity
from compressit.steps._feeling import spread
from compressit.steps._walking import WalkingConfig, each_group
from compressit.weights import BITS, Weight, Weights

if TYPE_CHECKING:
    import torch

EXACT = 1e-9
"""Share of a sum by which its rounding may be off."""
LEAST, MOST = 0.3, 0.5
"""How far a matrix's share may lie from all of theirs: a part of it at least, and of what is left beyond it at most."""


class Config(WalkingConfig):
    """Fields of the step."""

    makes: ClassVar[frozenset[Fact]] = frozenset({Fact.SHAPES, Fact.FACTORS})
    keeps: ClassVar[frozenset[Fact]] = frozenset({Fact.SHAPES, Fact.DTYPE})

    sparsity: float | None = Field(None, gt=0, lt=1)
    """Share of each matrix's weights to save."""
    error: float | None = Field(None, gt=0, lt=1)
    """Instead: how far the outputs of each matrix may move, relative to their size; its rank follows."""
    spread: Literal["even", "measured"] = "even"
    """Whether each matrix saves the same share, or more where the model's answers feel it less and the same over all:
    some calibration rows say so, in passes for each matrix by itself."""
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
        if self.error is not None and self.spread == "measured":
            raise ValueError("an error holds in every matrix: spread: measured goes with sparsity")
        return self

    def unsaid(self, end: Weights | None) -> Unsaid | None:
        """Name the layers that become two."""
        return Unsaid("plain transformers knows no layers that are two", sure=self.sparsity is not None)

    def idle(self) -> Mapping[str, str]:
        """Name what is about outputs, where weights alone are looked at."""
        return {**super().idle(), **({} if self.whiten else {"damping": "whiten"})}

    @property
    def watched(self) -> str | None:
        """What would have the blocks be walked through for something; None where they are."""
        return None if self.whiten else "whiten"

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
    share = _shares(model, chosen, config, context)
    kept = context.scratch / "factors"
    kept.mkdir(parents=True, exist_ok=True)

    def change(block: Block, group: Group) -> None:
        gram_II = group.statistic.hessian() if config.whiten and group.statistic.count else None
        for matrix in group.matrices:
            weight_OI = block.weight(matrix)
            outputs, inputs = weight_OI.shape
            parts = spectrum(weight_OI, gram_II, config.damping)
            if config.error is not None:
                rank = parts.rank(config.error)
            else:
                rank = rank_of_share(outputs, inputs, 1 - share[matrix.name])
            if rank >= min(outputs, inputs):
                continue
            factors, energy = parts.factors(rank), float(parts.values_K.square().sum())
            # What comes after sees it already.
            block.put(matrix, factors.product_OI)
            if ranks.leads():
                said = {"energy": repr(energy), "lost": repr(energy * parts.lost(rank) ** 2)}
                disk.write(_file(kept, matrix.name), vars(factors), said)

    each_group(model, chosen, config, context, Gram, change)
    anatomy.settle(model.module)
    before = sum(weight.numel() for weight in _weights(model, chosen))
    # A walk that goes on after it was interrupted has not met the first of them; and all take what the first has kept.
    places = [(name, _file(kept, name)) for name in chosen] if ranks.leads() else []
    found = {name: disk.contents(file) for name, file in places if file.is_file()}
    found = ranks.agreed(found, context.processes)
    for name, (factors, _) in found.items():
        factoring.factor(model.module, name, **factors)
    saved = before - sum(_elements(model, name) for name in chosen)
    lost, power = (sum(float(said[key]) for _, said in found.values()) for key in ("lost", "energy"))
    notes = {"layers": len(found), "left_whole": len(chosen) - len(found), "saved": round(saved / before, 4)}
    return {**notes, **({"relative_error": float(f"{(lost / power) ** 0.5:.3g}")} if power else {})}


def foresee(table: Weights, config: Config) -> Weights | None:
    """Give each matrix as two, where the share says how thin they are."""
    if anatomy.is_transposed(table.model_type):
        raise RecipeError(f"{table.model_type} keeps its weights transposed: they can't be made two")
    linears = table.linears()
    picked = models.matching(list(linears), config.include, config.exclude, default=table.inside_blocks)
    if config.sparsity is None or config.spread == "measured":
        return None
    tensors: list[Weight] = []
    for tensor in table.tensors:
        name = tensor.name.removesuffix(".weight")
        if name == tensor.name or name not in picked:
            tensors.append(tensor)
            continue
        outputs, inputs = tensor.shape
        rank = rank_of_share(outputs, inputs, 1 - config.sparsity)
        tensors.append(replace(tensor, name=f"{name}.{factoring.REDUCE}.weight", shape=(rank, inputs)))
        tensors.append(replace(tensor, name=f"{name}.{factoring.EXPAND}.weight", shape=(outputs - rank, rank)))
        tensors.append(Weight(f"{name}.{factoring.ORDER}", (outputs,), BITS["I32"]))
    return table.changed(tensors)


def claim(folder: Path, config: Config) -> str | None:
    """Find the pairs in the saved file, and hold their size to the share."""
    shapes = checkpoint.shapes(folder)
    found, whole = factoring.ranks(shapes), factoring.whole(shapes)
    if not found and config.sparsity is not None:
        return "no layer of the checkpoint is two"
    taken = held = 0.0
    for name, rank in found.items():
        outputs, inputs = whole[f"{name}.weight"]
        own, most = size(outputs, inputs, rank), (1 - (config.sparsity or 0)) * outputs * inputs
        if config.spread == "even" and rank > 1 and own > most:
            return f"{name} has {own:,} weights, not {most:,.0f}"
        # Less than a rank of 1 there is not.
        taken, held = taken + (own if rank > 1 else min(own, most)), held + most
    return f"layers that are two have {taken:,.0f} weights, not {held:,.0f}" if taken > held * (1 + EXACT) else None


def _shares(model: Model, chosen: dict[str, Matrix], config: Config, context: StepContext) -> dict[str, float]:
    """Say which share of each matrix is saved."""
    share = config.sparsity or 0.0
    if config.spread == "even":
        return dict.fromkeys(chosen, share)
    last: dict[str, Spectrum] = {}

    def trial(matrix: Matrix, weight_OI: torch.Tensor, share: float) -> torch.Tensor:
        """Take from a matrix without a look at its inputs: which ones can do without is much the same."""
        if matrix.name not in last:
            last.clear()
            last[matrix.name] = spectrum(weight_OI, None, 0)
        outputs, inputs = weight_OI.shape
        return last[matrix.name].factors(rank_of_share(outputs, inputs, 1 - share)).product_OI

    return spread(model, chosen, share, [LEAST * share, share, share + MOST * (1 - share)], trial, context)


def _file(folder: Path, name: str) -> Path:
    return folder / f"{name}.safetensors"


def _weights(model: Model, chosen: dict[str, Matrix]) -> list[torch.Tensor]:
    state = model.module.state_dict(keep_vars=True)
    return [matrix.of(state) for matrix in chosen.values()]


def _elements(model: Model, name: str) -> int:
    """Count the weights of a layer, or of the two that stand for it; biases are none of them."""
    part = model.module.get_submodule(name)
    return sum(weight.numel() for weight in part.parameters() if weight.dim() == 2)
