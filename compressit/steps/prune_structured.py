"""Cut heads and neurons out together, for good, down to a budget of multiplications.

How many of each go, and where, is decided by what they are worth: those whose importance is least for what they cost go
first, be they heads or neurons, in whichever block (Kwon et al. 2022, arXiv:2204.09656, whose search over numbers of
heads ends where this does). Importance and least squares are those of `prune_ffn` and `prune_heads`.

Recipe::

    - step: prune_structured
      sparsity: 0.5
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from pydantic import Field

from compressit import anatomy
from compressit.errors import RecipeError
from compressit.model import Model
from compressit.steps import Notes, StepContext, prune_ffn, prune_heads
from compressit.steps._cutting import CuttingConfig, cut, shared, shrunk
from compressit.steps._importance import Units
from compressit.weights import Weights

if TYPE_CHECKING:
    import torch


class Config(CuttingConfig):
    """Fields of the step."""

    sparsity: float = Field(gt=0, lt=1)
    """Share of the blocks' multiplications to cut."""
    multiple: int = Field(8, ge=1)
    """Leave a multiple of so many neurons in each block: processors are faster at round numbers."""
    length: int = Field(128, ge=1)
    """Tokens of a text, for what heads multiply between tokens: long texts make them dear."""


def run(model: Model, config: Config, context: StepContext) -> Notes:
    """Cut heads and neurons out, in place."""
    whole = sum(costs(model.module, _units(model.module), config.length).values())

    def pick(
        before: list[int], units: Sequence[Units], scores: Sequence[torch.Tensor], share: float
    ) -> list[list[int]]:
        dear = costs(model.module, units, config.length)
        each = [dear[unit.block, unit.kind] / unit.count for unit in units]
        steps = [config.multiple if unit.kind == "ffn" else 1 for unit in units]
        if config.importance == "random":
            # By chance alone: what is dear is no likelier to go.
            scores = [score * cost for score, cost in zip(scores, each, strict=True)]
        return cheapest(scores, each, steps, whole * (1 - share))

    notes = cut(model, config, context, _units, pick)
    left = sum(costs(model.module, _units(model.module), config.length).values())
    return {**notes, "multiplications_left": round(left / whole, 4)}


def foresee(before: Weights, config: Config) -> Weights:
    """Shrink the table as if heads and neurons lost the same share everywhere; the budget is the same."""
    if before.head_dim is None:
        return before
    after = before
    for found, unit in ((prune_heads.located(before), 1), (prune_ffn.located(before), config.multiple)):
        counts = list(found.counts.values())
        after = shrunk(after, found, shared(counts, config.sparsity, unit))
    return after


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
        raise RecipeError(
            f"prune_structured: a block keeps one head and a few neurons, which are {total / budget:.2f} of the budget",
            hint="lower sparsity, or multiple",
        )
    return [sorted(order[count:].tolist()) for order, count in zip(orders, gone, strict=True)]


def costs(module: Any, units: Sequence[Units], length: int) -> Mapping[tuple[str, str], float]:
    """Count the multiplications of a token in each feed-forward network and attention, by block and kind."""
    model_type = module.config.model_type
    found = {(each.block, each.kind): 0.0 for each in units}
    for name, tensor in module.named_parameters():
        block = anatomy.block_name(model_type, name)
        if block is None or tensor.dim() != 2 or not name.endswith(".weight"):
            continue
        for kind in ("ffn", "self", "cross"):
            axis = anatomy.neuron_axis(model_type, name) if kind == "ffn" else anatomy.head_axis(model_type, name, kind)
            if axis is not None and (block, kind) in found:
                found[block, kind] += tensor.numel()
    for each in units:
        if each.kind != "ffn":
            # Scores, and what they weigh: each query with each of the other tokens.
            found[each.block, each.kind] += 2 * length * each.count * each.each
    return found


def _units(module: Any) -> list[Units]:
    return [*prune_heads.units(module), *prune_ffn.units(module)]
