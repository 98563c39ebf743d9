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

import json
from pathlib import Path
from typing import ClassVar, Literal

from pydantic import Field, model_validator

from compressit import checkpoint, model, weights
from compressit.algorithms import masks
from compressit.errors import RecipeError
from compressit.model import Model
from compressit.steps import Fact, Notes, StepConfig, StepContext
from compressit.weights import Weights


class Config(StepConfig):
    """Fields of the step."""

    makes: ClassVar[frozenset[Fact]] = frozenset({Fact.SPARSITY})
    keeps: ClassVar[frozenset[Fact]] = frozenset({Fact.SHAPES, Fact.SPARSITY, Fact.DTYPE})

    sparsity: float | None = Field(None, gt=0, lt=1)
    """Share of the weights to zero."""
    pattern: str | None = Field(None, pattern=r"^[1-9]\d*:[1-9]\d*$")
    """N:M, weights that stay of every M consecutive inputs, such as "2:4"."""
    scope: Literal["layer", "global"] = "layer"
    """Whether each layer loses the same share, or all layers together lose it, some more than others."""
    include: tuple[str, ...] = ()
    """Glob patterns of layers to prune (default: every linear layer inside the blocks)."""
    exclude: tuple[str, ...] = ()
    """Glob patterns of layers to leave alone."""

    @model_validator(mode="after")
    def _one_amount(self) -> Config:
        if (self.sparsity is None) == (self.pattern is None):
            raise ValueError("prune_magnitude needs either sparsity or pattern")
        if self.pattern is not None and self.scope == "global":
            raise ValueError("a pattern holds in every layer: scope: global goes with sparsity")
        if self.pattern is not None and self.kept[0] >= self.kept[1]:
            raise ValueError(f"pattern {self.pattern} prunes nothing: the first number must be the smaller one")
        return self

    @property
    def kept(self) -> tuple[int, int]:
        """N and M of the pattern."""
        n, m = (self.pattern or "1:1").split(":")
        return int(n), int(m)


def run(model: Model, config: Config, context: StepContext) -> Notes:
    """Zero in place."""
    layers = model.linears(config.include, config.exclude)
    scores = [layer.weight.detach().abs().float() for layer in layers.values()]
    if config.pattern is not None:
        found = [masks.n_of_m(score, *config.kept) for score in scores]
    elif config.scope == "global":
        found = masks.smallest(scores, config.sparsity or 0)
    else:
        found = [masks.smallest([score], config.sparsity or 0)[0] for score in scores]
    for layer, mask in zip(layers.values(), found, strict=True):
        layer.weight.data.masked_fill_(mask, 0)
    zeros = sum(int((layer.weight == 0).sum()) for layer in layers.values())
    total = sum(score.numel() for score in scores)
    return {"layers": len(layers), "sparsity": round(zeros / total, 4)}


def foresee(before: Weights, config: Config) -> Weights:
    """Leave the table as it is: zeros take the same room. Check patterns and shapes."""
    for name, weight in _chosen(before, config).items():
        if weight.shape[1] % config.kept[1]:
            raise RecipeError(
                f"pattern {config.pattern} needs inputs that {config.kept[1]} divides; {name} has {weight.shape[1]}",
                hint="leave that layer out: exclude: [...]",
            )
    return before


def claim(folder: Path, config: Config) -> str | None:
    """Count the zeros of the layers in the saved files."""
    chosen = _chosen(_dense(folder), config)
    zeros = total = 0
    for stored in checkpoint.tensors(folder):
        name = stored.name.removesuffix(".weight")
        if name not in chosen or name == stored.name:
            continue
        here, wanted = int(stored.zero.sum()), round((config.sparsity or 0) * stored.elements)
        zeros, total = zeros + here, total + stored.elements
        if config.scope == "layer" and here < wanted:
            return f"{name} has {here:,} zeros, not {wanted:,}"
        n, m = config.kept
        if config.pattern and int(stored.zero.unflatten(-1, (-1, m)).sum(-1).min()) < m - n:
            return f"{name} does not keep the pattern {config.pattern}"
    if zeros < round((config.sparsity or 0) * total):
        return f"{zeros:,} of {total:,} weights are zero, not {config.sparsity:.0%}"
    return None


def _dense(folder: Path) -> Weights:
    """Read the shapes that quantized layers have when they are opened."""
    config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    held = [weights.Weight(stored.name, tuple(stored.zero.shape), 0) for stored in checkpoint.tensors(folder)]
    return Weights(str(config.get("model_type", "unknown")), tuple(held))


def _chosen(table: Weights, config: Config) -> dict[str, weights.Weight]:
    linears = table.linears()
    names = model.matching(list(linears), config.include, config.exclude, default=table.inside_blocks)
    return {name: linears[name] for name in names}
