"""What the steps share that cut heads, neurons or channels: fields, how many stay where, cutting round by round."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, ClassVar

from pydantic import Field

from compressit import anatomy
from compressit.algorithms.refit import refit
from compressit.data.walking import Block, Group
from compressit.data.walking.statistics import Gram, Moments
from compressit.errors import RecipeError
from compressit.model import Model
from compressit.model.matrices import convolutions, matrices
from compressit.steps import Dial, Fact, Need, Notes, StepContext, sparsity
from compressit.steps._importance import FEW, MEASURED, Importance, Units, importance
from compressit.steps._walking import WalkingConfig, each_group
from compressit.weights import Weight, Weights

if TYPE_CHECKING:
    import torch

NEURONS = ("ffn", "experts")
"""Kinds of units that are neurons."""
Pick = Callable[[list[int], Sequence[Units], Sequence["torch.Tensor"], float], list[list[int]]]


class CuttingConfig(WalkingConfig):
    """Fields of the steps that cut heads, neurons or channels."""

    makes: ClassVar[frozenset[Fact]] = frozenset({Fact.SHAPES})
    keeps: ClassVar[frozenset[Fact]] = frozenset({Fact.SHAPES, Fact.SPARSITY, Fact.DTYPE})
    together: ClassVar[bool] = False
    prunes: ClassVar[bool] = True

    sparsity: float = Field(gt=0, lt=1)
    """Share to cut."""
    importance: Importance = "fisher"
    """What decides: how much the loss changes without one, as calibration tells (`fisher`, `taylor`), the size of what
    it adds (`activation`), or of its weights (`magnitude`); `random` to compare with."""
    rounds: int = Field(1, ge=1, le=100)
    """Times to cut, importance measured anew in between."""
    refit: bool = True
    """Let those that stay make up for those that go, by least squares on calibration data."""
    special_tokens: bool = False
    """Count the positions of special tokens, such as [CLS] and <s>, in the least squares: few of them outweigh all."""
    batch_size: int = Field(32, ge=1)
    """Examples at once while importance is measured."""

    def dial(self, table: Weights | None) -> Dial:
        """Turn the share."""
        return Dial("sparsity", self.sparsity, sparsity)

    def idle(self) -> Mapping[str, str]:
        """Name what says how to measure, where nothing is measured."""
        measures = self.importance in MEASURED or self.batches
        return {**super().idle(), **({} if measures else {"batch_size": f"importance: {' or '.join(MEASURED)}"})}

    @property
    def batches(self) -> bool:
        """Whether examples are read in batches for something besides importance."""
        return False

    @property
    def watched(self) -> str | None:
        """What would have the blocks be walked through for something; None where they are."""
        return None if self.refit else "refit"

    def needs(self) -> frozenset[Need]:
        """Ask for calibration data where anything is measured."""
        return frozenset({Need.CALIBRATION}) if self.refit or self.importance in MEASURED else frozenset()

    def walks(self) -> int:
        """Say whether the blocks are walked through for the least squares."""
        return int(self.refit)


class BlockConfig(CuttingConfig):
    """Fields of those that cut heads or neurons, which blocks may differ in."""

    uniform: bool = False
    """Cut the same share out of every block; otherwise the least important of all go, wherever they are."""

    @property
    def unit(self) -> int:
        """How many stay or go together."""
        return 1

    def uneven(self) -> bool:
        """Let blocks differ unless they are cut alike."""
        return not self.uniform


def rounds(config: CuttingConfig, context: StepContext) -> Iterator[tuple[float, StepContext]]:
    """Say what share is gone after each round, which cuts as large a share of the rest as any; each has its folder."""
    for number in range(1, config.rounds + 1):
        share = 1 - (1 - config.sparsity) ** (number / config.rounds)
        yield share, replace(context, scratch=context.scratch / f"round-{number}")


def cut(
    model: Model, config: CuttingConfig, context: StepContext, find: Callable[[Any], list[Units]], pick: Pick
) -> Notes:
    """Cut in place, round by round.

    Args:
        model: Its weights in memory.
        config: The step's fields.
        context: Calibration rows, device, seed.
        find: Finds what can be cut in a module.
        pick: Picks those that stay of what there is: of their number at first, their importance, and the share to cut.
    """
    whole = find(model.module)
    before = [each.count for each in whole]
    starved: set[str] = set()
    for share, own in rounds(config, context):
        units = find(model.module)
        scores = importance(model, units, config.importance, config.batch_size, own, starved)
        picked = pick(before, units, [ranked(score) for score in scores], share)
        stay = [spelled(each, *both) for each, *both in zip(units, scores, picked, strict=True)]
        if config.refit:
            refit_inputs(model, units, stay, config, own)
        for each, keep in zip(units, stay, strict=True):
            take_out(model.module, each, keep)
    left = [each.count for each in find(model.module)]
    gone = sum((each.count - count) * len(each.members) for each, count in zip(whole, left, strict=True))
    plain = anatomy.settle(model.module)
    notes: dict[str, float | int | str | bool] = {"cut": gone, "left": ", ".join(map(str, left))}
    notes["opens_in_plain_transformers"] = plain
    if starved:
        first = min(starved)
        context.progress.say(
            f"warning: {len(starved)} experts saw fewer than {FEW} tokens and lost neurons by magnitude: {first}"
        )
        notes |= {"starved": len(starved), "first_starved": first}
    return notes


def by_number(config: BlockConfig) -> Pick:
    """Pick by a share of their number."""

    def pick(
        before: list[int], units: Sequence[Units], scores: Sequence[torch.Tensor], share: float
    ) -> list[list[int]]:
        several = [len(each.members) for each in units]
        final(before, config, several)
        return chosen(scores, amounts(before, config, share, several), config, several)

    return pick


def ranked(scores: torch.Tensor) -> torch.Tensor:
    """Add up what each matrix loses of those that matter least in it: (matrices, count) -> (count,), falling."""
    return scores if scores.dim() == 1 else scores.sort(descending=True).values.sum(0)


def spelled(units: Units, scores: torch.Tensor, picked: Sequence[int]) -> list[list[int]]:
    """Say which stay of each matrix; of those that each loses its own of, as many as were picked."""
    if scores.dim() == 1:
        return [list(picked)] * len(units.members)
    return [sorted(own[: len(picked)].tolist()) for own in scores.argsort(descending=True, stable=True)]


def take_out(module: Any, units: Units, keep: Sequence[Sequence[int]]) -> None:
    """Cut all but some heads or neurons out; `keep` lists them for each matrix."""
    blocks = [block for block, _ in units.members]
    if units.kind == "ffn":
        anatomy.cut_neurons(module, units.block, keep[0])
    elif units.kind == "experts":
        anatomy.cut_experts(module, units.block, keep)
    elif units.kind == "channels":
        anatomy.cut_channels(module, units.matrix, keep[0])
    else:
        anatomy.cut_heads_apart(module, dict(zip(blocks, keep, strict=True)), units.kind)


def refit_inputs(
    model: Model,
    units: Sequence[Units],
    stay: Sequence[Sequence[Sequence[int]]],
    config: CuttingConfig,
    context: StepContext,
) -> None:
    """Zero the inputs of those that will go, and have the others make up for them; `stay` is from `spelled`.

    Experts that saw too few tokens to tell are left as they are. Of what goes into a convolution the mean is made up
    for apart, by the batch norm behind it, which takes a mean off what it is given.
    """
    import torch

    keep = {}
    for each, lists in zip(units, stay, strict=True):
        for (_, matrix), kept in zip(each.members, lists, strict=True):
            mask = torch.zeros(each.count, dtype=torch.bool)
            mask[list(kept)] = True
            if not bool(mask.all()):
                keep[matrix] = mask.repeat_interleave(each.each)

    def change(block: Block, group: Group) -> None:
        if group.matrices[0].expert is not None and group.statistic.count < FEW:
            return
        gram_II = group.statistic.hessian()
        for matrix in group.matrices:
            mask_I = keep[matrix.name].to(gram_II.device)
            block.put(matrix, refit(block.weight(matrix), gram_II, mask_I))

    def change_convolution(block: Block, group: Group) -> None:
        gram_II, mean_I = group.statistic.centred()
        for matrix in group.matrices:
            whole_OI, mask_I = block.weight(matrix), keep[matrix.name].to(gram_II.device)
            found_OI = refit(whole_OI, gram_II, mask_I)
            block.put(matrix, found_OI)
            after = anatomy.link(model.module, matrix.name).after
            block.add(f"{after}.running_mean", (found_OI - whole_OI) @ mean_I)

    chosen = {matrix.name: matrix for matrix in matrices(model.module) if matrix.name in keep}
    if chosen:
        each_group(model, chosen, config, context, Gram, change)
    chosen = {matrix.name: matrix for matrix in convolutions(model.module) if matrix.name in keep}
    if chosen:
        each_group(model, chosen, config, context, Moments, change_convolution)


def amounts(
    counts: Sequence[int], config: BlockConfig, share: float, several: Sequence[int] | None = None
) -> list[int]:
    """Say how many stay: in each block where all lose the same share, and otherwise a list that adds up to all.

    `several` says in how many matrices each of them goes at once, as in `Units`.
    """
    return even(counts, share, config.unit, same=config.uniform or len({*(several or [])}) > 1)


def even(counts: Sequence[int], share: float, unit: int, *, same: bool) -> list[int]:
    """Say how many stay of each list of units when a share goes: the same share of each, or as evenly as they go."""
    if not same:
        return shared(counts, share, unit)
    return [min(count, max(unit, round(count * (1 - share) / unit) * unit)) for count in counts]


def shared(counts: Sequence[int], share: float, unit: int) -> list[int]:
    """Say how many stay of each list of units when a share of all goes, in proportion as they go, `unit` at a time."""
    total = max(unit * len(counts), round(sum(counts) * (1 - share) / unit) * unit)
    exact = [count * total / sum(counts) for count in counts]
    left = [min(count, max(unit, int(own / unit) * unit)) for count, own in zip(counts, exact, strict=True)]
    most_due = sorted(range(len(counts)), key=lambda index: left[index] - exact[index])
    while sum(left) + unit <= total and left != [*counts]:
        index = next(index for index in most_due if left[index] < counts[index])
        left[index] = min(counts[index], left[index] + unit)
        most_due.append(most_due.pop(most_due.index(index)))
    for index in reversed(most_due):
        if sum(left) - unit >= total and left[index] > unit:
            left[index] -= unit
    return left


def final(counts: Sequence[int], config: BlockConfig, several: Sequence[int] | None = None) -> list[int]:
    """Say how many stay in the end.

    Raises:
        RecipeError: all would.
    """
    left = amounts(counts, config, config.sparsity, several)
    if sum(left) == sum(counts):
        have = ", ".join(map(str, counts))
        even = ", or leave out `uniform`, so that blocks may differ" if config.uniform else ""
        raise RecipeError(
            f"{config.step}: a share of {config.sparsity:.0%} cuts nothing: the blocks have {have}",
            hint="raise sparsity" + (", or lower multiple" if config.unit > 1 else "") + even,
        )
    return left


def chosen(
    scores: Sequence[torch.Tensor], keep: Sequence[int], config: BlockConfig, several: Sequence[int] | None = None
) -> list[list[int]]:
    """Pick those that stay, block by block: the most important ones, `config.unit` at a time.

    Args:
        scores: (count,) for each block.
        keep: From `amounts`.
        config: Whether blocks may differ in number.
        several: In how many matrices each goes at once.
    """
    import torch

    orders = [torch.argsort(score, descending=True, stable=True) for score in scores]
    if not config.uniform:
        ordered = [score[order] for score, order in zip(scores, orders, strict=True)]
        keep = _spread(ordered, keep, config.unit, several or [1] * len(scores))
    return [sorted(order[:count].tolist()) for order, count in zip(orders, keep, strict=True)]


def _spread(ranked: Sequence[torch.Tensor], keep: Sequence[int], unit: int, several: Sequence[int]) -> list[int]:
    """Share as many out to blocks as `keep` adds up to, `unit` at a time, by the mean importance of the next of each.

    What goes in several matrices at once is as many.
    """
    total = sum(count * times for count, times in zip(keep, several, strict=True))
    counts = [min(unit, len(scores)) for scores in ranked]
    taken = sum(count * times for count, times in zip(counts, several, strict=True))
    offers = [
        (float(part.mean()) / several[block], -block, -place, len(part))
        for block, scores in enumerate(ranked)
        for place, part in enumerate(scores.split(unit))
        if place
    ]
    for _, block, _, size in sorted(offers, reverse=True):
        if taken + size * several[-block] <= total:
            counts[-block] += size
            taken += size * several[-block]
    return counts


@dataclass(frozen=True)
class Found:
    """Where the table of weights has heads or neurons.

    Attributes:
        counts: How many there are, by where they are.
        place: Where those of a tensor are, by its name, and along which axis they lie.
        several: In how many matrices each goes at once, by where they are.
    """

    counts: Mapping[Any, int]
    place: Callable[[str], tuple[Any, int] | None]
    several: Mapping[Any, int]


def foresee(before: Weights, config: BlockConfig, found: Found) -> Weights:
    """Shrink the tensors of the table; where blocks may differ, as if none did, which adds up to the same.

    Raises:
        RecipeError: there are none, or none would go.
    """
    if not found.counts:
        raise nothing(config.step, before.model_type)
    return shrunk(
        before, found, final(list(found.counts.values()), config, [found.several[where] for where in found.counts])
    )


def nothing(step: str, model_type: str) -> RecipeError:
    """Say that there is nothing to cut, and what else could be."""
    other = anatomy.cut_instead(model_type) if anatomy.known(model_type).stacks else step
    hint = None if other.startswith(step) else other
    return RecipeError(f"{step} finds nothing to cut in a {model_type}", hint=hint)


def shrunk(before: Weights, found: Found, left: Sequence[int]) -> Weights:
    """Shrink the tensors of the table to how many are left of each."""
    stay = dict(zip(found.counts, left, strict=True))

    def smaller(tensor: Weight) -> Weight:
        place = found.place(tensor.name)
        if place is None:
            return tensor
        (where, axis), shape = place, list(tensor.shape)
        shape[axis] = shape[axis] * stay[where] // found.counts[where]
        return replace(tensor, shape=tuple(shape))

    return before.changed(map(smaller, before.tensors))
