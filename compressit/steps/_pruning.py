"""What all steps that zero weights share: fields, what the plan foresees, what the saved file must hold."""

from __future__ import annotations

from pathlib import Path
from typing import ClassVar

from pydantic import Field, model_validator

from compressit import checkpoint, intake, model, weights
from compressit.errors import RecipeError
from compressit.steps import Fact, StepConfig
from compressit.weights import Weights


class PruningConfig(StepConfig):
    """Fields of every step that zeroes weights."""

    makes: ClassVar[frozenset[Fact]] = frozenset({Fact.SPARSITY})
    keeps: ClassVar[frozenset[Fact]] = frozenset({Fact.SHAPES, Fact.SPARSITY, Fact.DTYPE})
    streams: ClassVar[bool] = True

    sparsity: float | None = Field(None, gt=0, lt=1)
    """Share of the weights to zero."""
    pattern: str | None = Field(None, pattern=r"^[1-9]\d*:[1-9]\d*$")
    """N:M, weights that stay of every M consecutive inputs, such as "2:4"."""
    include: tuple[str, ...] = ()
    """Glob patterns of layers to prune (default: every linear layer inside the blocks)."""
    exclude: tuple[str, ...] = ()
    """Glob patterns of layers to leave alone."""

    @model_validator(mode="after")
    def _one_amount(self) -> PruningConfig:
        if (self.sparsity is None) == (self.pattern is None):
            raise ValueError(f"{self.step} needs either sparsity or pattern")
        if self.pattern is not None and self.kept[0] >= self.kept[1]:
            raise ValueError(f"pattern {self.pattern} prunes nothing: the first number must be the smaller one")
        return self

    @property
    def kept(self) -> tuple[int, int]:
        """N and M of the pattern."""
        n, m = (self.pattern or "1:1").split(":")
        return int(n), int(m)


def foresee(before: Weights, config: PruningConfig) -> Weights:
    """Leave the table as it is: zeros take the same room. Check patterns and shapes."""
    for name, weight in _chosen(before, config).items():
        if weight.shape[1] % config.kept[1]:
            raise RecipeError(
                f"pattern {config.pattern} needs inputs that {config.kept[1]} divides; {name} has {weight.shape[1]}",
                hint="leave that layer out: exclude: [...]",
            )
    return before


def claim(folder: Path, config: PruningConfig, *, overall: bool = False) -> str | None:
    """Count the zeros of the layers in the saved files.

    Args:
        folder: Checkpoint.
        config: What was promised.
        overall: Whether layers may differ, as long as the share holds over all of them.
    """
    model_type = str(intake.described(folder).get("model_type", "unknown"))
    shapes = checkpoint.shapes(folder)
    table = Weights(model_type, tuple(weights.Weight(name, shape, 0) for name, shape in shapes.items()))
    picked = _chosen(table, config)
    zeros = total = 0
    for stored in checkpoint.tensors(folder):
        name = stored.name.removesuffix(".weight")
        if name not in picked or name == stored.name:
            continue
        zero = stored.zero if tuple(stored.zero.shape) == picked[name].shape else stored.zero.T
        here, wanted = int(zero.sum()), int((config.sparsity or 0) * stored.elements)
        zeros, total = zeros + here, total + stored.elements
        if not overall and here < wanted:
            return f"{name} has {here:,} zeros, not {wanted:,}"
        n, m = config.kept
        if config.pattern and int(zero.unflatten(-1, (-1, m)).sum(-1).min()) < m - n:
            return f"{name} does not keep the pattern {config.pattern}"
    if zeros < int((config.sparsity or 0) * total):
        return f"{zeros:,} of {total:,} weights are zero, not {config.sparsity:.0%}"
    return None


def _chosen(table: Weights, config: PruningConfig) -> dict[str, weights.Weight]:
    linears = table.linears()
    names = model.matching(list(linears), config.include, config.exclude, default=table.inside_blocks)
    return {name: linears[name] for name in names}
