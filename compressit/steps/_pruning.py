"""What all steps that zero weights share: fields, what the plan foresees, what the saved file must hold."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence, Set
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar, Literal, Self

from pydantic import Field, model_validator

from compressit import checkpoint, model, weights
from compressit.algorithms import masks
from compressit.errors import RecipeError
from compressit.steps import Dial, Fact, Need, StepConfig, StepContext, sparsity
from compressit.steps._feeling import spread
from compressit.weights import Weights

if TYPE_CHECKING:
    import torch

    from compressit.model import Model
    from compressit.model.matrices import Matrix


ROUNDING = 0.01
"""Share of the zeros by which what is spread may miss its sum: each layer rounds its own."""
LEAST, MOST = 0.8, 0.3
"""How far a layer's share may lie from all layers': a part of it at least, and of what is left beyond it at most."""


class ZeroingConfig(StepConfig):
    """Fields of every step that zeroes weights, whenever it does."""

    makes: ClassVar[frozenset[Fact]] = frozenset({Fact.SPARSITY})
    prunes: ClassVar[bool] = True

    sparsity: float | None = Field(None, gt=0, lt=1)
    """Share of the weights to zero."""
    pattern: str | None = Field(None, pattern=r"^[1-9]\d*:[1-9]\d*$")
    """N:M, weights that stay of every M consecutive inputs, such as "2:4"."""
    include: tuple[str, ...] = ()
    """Glob patterns of layers to prune (default: every linear layer inside the blocks)."""
    exclude: tuple[str, ...] = ()
    """Glob patterns of layers to leave alone."""

    @model_validator(mode="after")
    def _one_amount(self) -> Self:
        if (self.sparsity is None) == (self.pattern is None):
            raise ValueError(f"{self.step} needs either sparsity or pattern")
        if self.pattern is not None and self.kept[0] >= self.kept[1]:
            raise ValueError(f"pattern {self.pattern} prunes nothing: the first number must be the smaller one")
        return self

    def dial(self, table: Weights | None) -> Dial | None:
        """Turn the share; a pattern has none."""
        return None if self.sparsity is None else Dial("sparsity", self.sparsity, sparsity)

    def patterned(self) -> bool:
        """Leave it open where globs say which matrices."""
        return self.pattern is not None and not self.include and not self.exclude

    @property
    def even(self) -> bool:
        """Whether each layer loses the same share."""
        return True

    @property
    def kept(self) -> tuple[int, int]:
        """N and M of the pattern."""
        n, m = (self.pattern or "1:1").split(":")
        return int(n), int(m)


class PruningConfig(ZeroingConfig):
    """Fields of every step that zeroes weights at once."""

    keeps: ClassVar[frozenset[Fact]] = frozenset({Fact.SHAPES, Fact.SPARSITY, Fact.DTYPE, Fact.FACTORS})
    streams: ClassVar[bool] = True

    spread: Literal["even", "measured"] = "even"
    """Whether each layer loses the same share, or more where the model's answers feel it less and the same over all:
    some calibration rows say so, in passes for each layer by itself."""

    @model_validator(mode="after")
    def _pattern_is_even(self) -> Self:
        if self.pattern is not None and self.spread == "measured":
            raise ValueError("a pattern holds in every layer: spread: measured goes with sparsity")
        return self

    def needs(self) -> frozenset[Need]:
        """Ask for calibration data where anything is measured."""
        return super().needs() | (frozenset({Need.CALIBRATION}) if self.spread == "measured" else frozenset())

    def streaming(self) -> bool:
        """Need the whole model where all of it is asked what a layer matters."""
        return self.even

    @property
    def even(self) -> bool:
        """Whether each layer loses the same share."""
        return self.spread == "even"


def shares(model: Model, chosen: Mapping[str, Matrix], config: PruningConfig, context: StepContext) -> dict[str, float]:
    """Say which share of each matrix goes: the same, or as much as the model's answers feel least.

    Weights go by their size as a trial: which layers can do without is much the same whatever decides within them.
    """
    share = config.sparsity or 0.0
    if config.even:
        return dict.fromkeys(chosen, share)
    probes = [LEAST * share, share, share + MOST * (1 - share)]
    return spread(model, chosen, share, probes, _trial, context)


def _trial(matrix: Matrix, weight_OI: torch.Tensor, share: float) -> torch.Tensor:
    return weight_OI.masked_fill(masks.smallest_of_rows(weight_OI.abs(), share), 0)


def foresee(before: Weights, config: ZeroingConfig) -> Weights:
    """Leave the table as it is: zeros take the same room. Check patterns and shapes."""
    for name, weight in _chosen(before, config).items():
        if weight.shape[1] % config.kept[1]:
            raise RecipeError(
                f"pattern {config.pattern} needs inputs that {config.kept[1]} divides; {name} has {weight.shape[1]}",
                hint="leave that layer out: exclude: [...]",
            )
    return before


def claim(folder: Path, config: ZeroingConfig, *, overall: bool = False) -> str | None:
    """Count the zeros of the layers in the saved files.

    Args:
        folder: Checkpoint.
        config: What was promised.
        overall: Whether layers may differ, as long as the share holds over all of them.
    """
    picked = _chosen(checkpoint.table(folder), config)
    zeros = promised = total = 0
    for stored in checkpoint.tensors(folder):
        name = stored.name.removesuffix(".weight")
        if name not in picked or name == stored.name:
            continue
        zero = stored.zero if tuple(stored.zero.shape) == picked[name].shape else stored.zero.T
        # Some steps zero a whole number of weights in each row.
        outputs, inputs = picked[name].shape
        share = config.sparsity or 0
        here, wanted = int(zero.sum()), min(int(share * stored.elements), outputs * round(share * inputs))
        zeros, promised, total = zeros + here, promised + wanted, total + stored.elements
        if not overall and config.even and here < wanted:
            return f"{name} has {here:,} zeros, not {wanted:,}"
        if not _patterned(zero, config):
            return f"{name} does not keep the pattern {config.pattern}"
    if zeros < promised * (1 if config.even else 1 - ROUNDING):
        return f"{zeros:,} of {total:,} weights are zero, not {config.sparsity:.0%}"
    return None


def remains(stages: Sequence[Path], config: ZeroingConfig, *, overall: bool = False) -> str | None:
    """Hold what later steps have left of each matrix to the zeros that this step had made in it.

    A cut takes zeros along, and those parts first that are richest in them, so that a share says nothing afterwards.
    But what is left has no weight where there was none; and matrices, where blocks or experts went, keep their order.

    Args:
        stages: Checkpoints: as the step left it, as each later cut but the last did, and the one saved in the end.
        config: What was promised.
        overall: As for `claim`.
    """
    if broken := claim(stages[0], config, overall=overall):
        return broken
    held = {*_chosen(checkpoint.table(stages[0]), config)}
    for earlier, later in pairwise(stages):
        with checkpoint.matrices(earlier) as before, checkpoint.matrices(later) as after:
            came = dict(_came(before, after, checkpoint.table(later).linears(), held))
        if lost := next((name for name, origin in came.items() if origin is None), None):
            return f"{lost} has weights that were 0"
        held = {name for name, origin in came.items() if origin in held}
    linears = checkpoint.table(stages[-1]).linears()
    with checkpoint.matrices(stages[-1]) as after:
        for name in sorted(held):
            zero = after[name]().values == 0
            if not _patterned(zero if tuple(zero.shape) == linears[name].shape else zero.T, config):
                return f"{name} does not keep the pattern {config.pattern}"
    return None


Read = Mapping[str, Callable[[], checkpoint.Matrix]]


def _came(before: Read, after: Read, names: Iterable[str], held: Set[str]) -> Iterator[tuple[str, str | None]]:
    """Say of which matrix each is what is left; None where there is none whose zeros are there, if they are held."""
    there = _alike(before)
    for place, own in _alike(names).items():
        rest = there.get(place, [])
        if held.isdisjoint(rest):
            continue
        for coming, name in zip(range(len(own), 0, -1), own, strict=True):
            zero = after[name]().values == 0
            # No more can have gone than are too many for those that are still to come.
            may = rest[: max(0, len(rest) - coming + 1)]
            fits = (index for index, each in enumerate(may) if each not in held or _outlasts(before[each], zero))
            index = next(fits, None)
            yield name, None if index is None else may[index]
            rest = rest[index + 1 :] if index is not None else rest


def _outlasts(then: Callable[[], checkpoint.Matrix], zero: torch.Tensor) -> bool:
    return masks.outlasts(then().values == 0, zero)


def _alike(names: Iterable[str]) -> dict[str, list[str]]:
    """Put together what has the same place in different blocks and experts, in their order."""
    found: dict[str, list[str]] = {}
    for name in sorted(names, key=lambda name: [int(part) for part in name.split(".") if part.isdigit()]):
        found.setdefault(_numberless(name), []).append(name)
    return found


def _numberless(name: str) -> str:
    return ".".join("*" if part.isdigit() else part for part in name.split("."))


def _patterned(zero_OI: torch.Tensor, config: ZeroingConfig) -> bool:
    """Tell whether every M consecutive inputs hold as many zeros as the pattern says; without one, anything does."""
    n, m = config.kept
    if config.pattern is None:
        return True
    return zero_OI.shape[-1] % m == 0 and int(zero_OI.unflatten(-1, (-1, m)).sum(-1).min()) >= m - n


def _chosen(table: Weights, config: ZeroingConfig) -> dict[str, weights.Weight]:
    linears = table.linears()
    names = model.matching(list(linears), config.include, config.exclude, default=table.inside_blocks)
    return {name: linears[name] for name in names}
