"""Cut heads and neurons out together, for good, down to a budget of multiplications or of time.

How many of each go, and where, is decided by what they are worth: those whose importance is least for what they cost go
first, be they heads or neurons, in whichever block (Kwon et al. 2022, arXiv:2204.09656, whose search over numbers of
heads ends where this does). Importance and least squares are those of `prune_ffn` and `prune_heads`.

With `budget: latency` costs are timed: how much faster a batch is through the model, with torch on the device of the
run, without half of the heads, and without half of the neurons. What is picked is timed too, and more goes until the
time holds. What is cut then hangs on the machine, and a little on the moment.

Recipe::

    - step: prune_structured
      sparsity: 0.5
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from pydantic import Field

from compressit import anatomy
from compressit.errors import RecipeError
from compressit.model import Model
from compressit.steps import Need, Notes, StepContext, Unsaid, _latency, prune_ffn, prune_heads
from compressit.steps._cutting import NEURONS, CuttingConfig, Found, cut, even, shrunk
from compressit.steps._importance import Units
from compressit.weights import Weights

if TYPE_CHECKING:
    import torch


TRIES = 4
"""Times that what is picked is timed, and more picked to go where it is too slow."""


class Config(CuttingConfig):
    """Fields of the step."""

    cuts_inputs: ClassVar[bool] = True

    sparsity: float = Field(gt=0, lt=1)
    """Share of the blocks' multiplications to cut, or of the time that the model takes."""
    budget: Literal["multiplications", "latency"] = "multiplications"
    """What that is a share of."""
    multiple: int = Field(8, ge=1)
    """Leave a multiple of so many neurons in each block: processors are faster at round numbers."""
    length: int = Field(128, ge=1)
    """Tokens of a text, for what heads multiply between tokens: long texts make them dear."""

    @property
    def batches(self) -> bool:
        """Whether a batch is timed."""
        return self.budget == "latency"

    def uneven(self) -> bool:
        """Let blocks differ."""
        return True

    def unsaid(self, end: Weights | None) -> Unsaid | None:
        """Name heads and neurons that differ."""
        heads = end is not None and anatomy.heads_said(end.model_type)
        even = f"prune_ffn{' and prune_heads' if heads else ''} with uniform: true in its place"
        return Unsaid("blocks may come to differ in how many heads and neurons they have", instead=even)

    def needs(self) -> frozenset[Need]:
        """Ask for calibration data to run where time counts, too."""
        return super().needs() | (frozenset({Need.CALIBRATION}) if self.budget == "latency" else frozenset())


def run(model: Model, config: Config, context: StepContext) -> Notes:
    """Cut heads and neurons out, in place."""
    _check(config, model.module.config.model_type, anatomy.met(model.module.config.to_dict()))
    whole = sum(costs(model.module, _units(model.module), config.length).values())
    timed = config.budget == "latency"
    inputs = _latency.batch(model, config.batch_size, config.length, context) if timed else {}
    original = _latency.without(model.module, (), ()) if timed else None

    def pick(
        before: list[int], units: Sequence[Units], scores: Sequence[torch.Tensor], share: float
    ) -> list[list[int]]:
        dear = costs(model.module, units, config.length)
        each = [dear[unit.block, unit.kind] / unit.count for unit in units]
        steps = [config.multiple if unit.kind in NEURONS else 1 for unit in units]
        if config.importance == "random":
            # By chance alone: what is dear is no likelier to go.
            scores = [score * cost for score, cost in zip(scores, each, strict=True)]
        if original is not None:
            return _in_time(model.module, original, inputs, units, scores, (each, steps), 1 - share)
        return cheapest(scores, each, steps, whole * (1 - share))

    notes = cut(model, config, context, _units, pick)
    left = sum(costs(model.module, _units(model.module), config.length).values())
    notes = {**notes, "multiplications_left": round(left / whole, 4)}
    if original is not None:
        before, after = _latency.seconds([original, model.module], inputs)
        notes["latency_left"] = round(after / before, 3)
    return notes


def foresee(before: Weights, config: Config) -> Weights:
    """Shrink the table as if heads and neurons lost the same share everywhere; the budget is the same."""
    _check(config, before.model_type, before.met)
    if before.head_dim is None:
        return before
    after, each = before, ((prune_heads.located(before), 1), (prune_ffn.located(before), config.multiple))
    least = _least(before, each, config.length)
    if least > 1 - config.sparsity:
        raise RecipeError(
            f"prune_structured: a block keeps one head and {config.multiple} neurons, which are {least:.1%} of its "
            f"multiplications: more than {1 - config.sparsity:.1%}",
            hint="lower sparsity, or multiple",
        )
    for found, unit in each:
        counts = list(found.counts.values())
        same = len({found.several[where] for where in found.counts}) > 1
        after = shrunk(after, found, even(counts, config.sparsity, unit, same=same))
    return after


def _check(config: Config, model_type: str, met: int | None) -> None:
    """Raise RecipeError where no heads can be cut, or not by so many neurons."""
    prune_heads.check(model_type)
    prune_ffn.check(config.step, config.multiple, met)


def _least(table: Weights, each: Sequence[tuple[Found, int]], length: int) -> float:
    """Say which share of the multiplications is left where as few heads and neurons stay as can."""
    inputs = 0 if anatomy.is_transposed(table.model_type) else 1
    whole = left = 0.0
    for found, unit in each:
        for tensor in table.tensors:
            place = found.place(tensor.name)
            matrix = len(tensor.shape) == 2 and tensor.name.endswith(".weight")
            if place is None or not matrix or anatomy.is_table(table.model_type, tensor.name):
                continue
            where, axis = place
            # What leads out of attention has its heads as inputs, which also multiply between tokens.
            between = 2 * length * tensor.shape[axis] if axis == inputs and isinstance(where, tuple) else 0
            share = (table.met or 1) / found.several[where] if anatomy.is_expert(table.model_type, tensor.name) else 1
            whole += share * tensor.elements + between
            left += (share * tensor.elements + between) * min(1.0, unit / found.counts[where])
    return left / whole


def cheapest(
    scores: Sequence[torch.Tensor], costs: Sequence[float], steps: Sequence[int], budget: float
) -> list[list[int]]:
    """Pick those that stay: the least important for their cost go first, until the rest costs no more than a budget.

    Args:
        scores: Importance of each unit, (count,) for each list of units; at least one step of each list stays.
        costs: What a unit of each list costs.
        steps: How many units of each list go together.
        budget: What all that stay may cost.

    Raises:
        RecipeError: what has to stay costs more.
    """
    import torch

    orders = [torch.argsort(score, stable=True) for score in scores]
    gone, total = [0] * len(scores), sum(cost * len(score) for cost, score in zip(costs, scores, strict=True))
    offers = []
    for place, (score, order, step) in enumerate(zip(scores, orders, steps, strict=True)):
        # What doesn't fill a step goes first, so that a multiple of it stays.
        cuts = range(len(score) % step or step, len(score) - step + 1, step)
        for start, stop in zip((0, *cuts), cuts, strict=False):
            offers.append((float(score[order[start:stop]].mean()) / costs[place], place, stop))
    for _, place, stop in sorted(offers):
        if total <= budget:
            break
        total -= costs[place] * (stop - gone[place])
        gone[place] = stop
    if total > budget:
        times = f"{total / budget:.2f} of" if budget > 0 else "more than"
        raise RecipeError(
            f"prune_structured: a block keeps one head and a few neurons, which are {times} the budget",
            hint="lower sparsity, or multiple",
        )
    return [sorted(order[count:].tolist()) for order, count in zip(orders, gone, strict=True)]


def _in_time(
    module: Any,
    original: Any,
    inputs: Mapping[str, torch.Tensor],
    units: Sequence[Units],
    scores: Sequence[torch.Tensor],
    costs: tuple[Sequence[float], Sequence[int]],
    share: float,
) -> list[list[int]]:
    """Pick those that stay until a model takes no more than a share of the original's time."""
    each, steps = costs
    feed_forward = [unit.kind in NEURONS for unit in units]
    fewer = [range(max(step, unit.count // 2 // step * step)) for unit, step in zip(units, steps, strict=True)]
    every = [range(unit.count) for unit in units]

    def half(kind: bool) -> list[range]:
        return [few if own == kind else all_ for few, all_, own in zip(fewer, every, feed_forward, strict=True)]

    def cost(stay: Sequence[Sequence[int]]) -> float:
        return sum(price * len(kept) for price, kept in zip(each, stay, strict=True))

    halves = {kind: half(kind) for kind in (False, True)}
    cut_by_half = [_latency.without(module, units, stay) for stay in halves.values()]
    whole, now, *quicker = _latency.seconds([original, module, *cut_by_half], inputs)
    rates = {}
    for (kind, stay), took in zip(halves.items(), quicker, strict=True):
        gone = cost(every) - cost(stay)
        # Where noise outweighs it, as much as multiplications cost on the whole.
        rates[kind] = (now - took) / gone if gone and took < now else now / cost(every)
    prices = [price * rates[kind] for price, kind in zip(each, feed_forward, strict=True)]
    fixed = now - sum(price * unit.count for price, unit in zip(prices, units, strict=True))
    limit = 0.0
    for _ in range(TRIES):
        picked = cheapest(scores, prices, steps, share * whole - fixed - limit)
        before, after = _latency.seconds([original, _latency.without(module, units, picked)], inputs)
        if after <= share * before:
            break
        limit += 1.1 * (after - share * before)
    return picked


def costs(module: Any, units: Sequence[Units], length: int) -> Mapping[tuple[str, str], float]:
    """Count the multiplications of a token in each feed-forward network and attention, by block and kind.

    Those of blocks that lose their units together are those of the first; of experts those that a token meets count.
    """
    model_type, met = module.config.model_type, anatomy.met(module.config.to_dict()) or 0
    found = {(each.block, each.kind): 0.0 for each in units}
    first = {(block, each.kind): (each.block, each.kind) for each in units for block, _ in each.members}
    for name, tensor in module.named_parameters():
        block = anatomy.block_name(model_type, name)
        if block is not None and tensor.dim() == 3 and anatomy.neuron_axis(model_type, name) is not None:
            found[first[block, "experts"]] += tensor.numel() * met / len(tensor)
        matrix = tensor.dim() == 2 and name.endswith(".weight")
        if block is None or not matrix or anatomy.is_table(model_type, name):
            continue
        for kind in ("ffn", "self", "cross"):
            axis = anatomy.neuron_axis(model_type, name) if kind == "ffn" else anatomy.head_axis(model_type, name, kind)
            if axis is not None and (block, kind) in first:
                found[first[block, kind]] += tensor.numel()
    for each in units:
        if each.kind not in NEURONS:
            # Scores, and what they weigh: each query with each of the other tokens.
            found[each.block, each.kind] += 2 * length * each.count * each.each * len(each.members)
    return found


def _units(module: Any) -> list[Units]:
    return [*prune_heads.units(module), *prune_ffn.units(module)]
