"""Cut attention heads out, for good: the matrices around them get smaller.

Where several query heads share a key-value head they go with it. Where all blocks of a stack add one table of position
biases to their scores, as MPNet's, T5's and some of BEiT's do, a head goes out of all of them at once, and its column
out of the table; T5's cross-attentions lose as many heads in each block, but each its own. Which ones go is decided as
in `prune_ffn`. Few
architectures can say a changed number of heads in config.json; for the others `compressit.load` opens the checkpoint,
and an export, which models that write text have none of, opens anywhere.

Recipe::

    - step: prune_heads
      sparsity: 0.25
"""

from __future__ import annotations

from collections import defaultdict
from typing import Any

from compressit import anatomy
from compressit.errors import RecipeError
from compressit.model import Model
from compressit.steps import Notes, StepContext, Unsaid
from compressit.steps._cutting import BlockConfig, Found, by_number, cut
from compressit.steps._cutting import foresee as foreseen
from compressit.steps._importance import Units
from compressit.weights import Weights


class Config(BlockConfig):
    """Fields of the step."""

    def unsaid(self, end: Weights | None) -> Unsaid | None:
        """Name numbers of heads that differ, or that don't go with the width."""
        if self.uneven() and (end is None or end.head_dim is None or len(located(end).counts) > 1):
            even = end is not None and anatomy.heads_said(end.model_type)
            return Unsaid(
                "blocks may come to differ in how many heads they have", instead="uniform: true" if even else ""
            )
        if end is None:
            return Unsaid("few config.json can say a changed number of heads")
        if end.heads_said:
            return None
        why = f"config.json of a {end.model_type} can't say heads that don't go with its width"
        stiff = not anatomy.heads_said(end.model_type)
        narrower = "prune_width by the same share beside it" if anatomy.as_wide(end.model_type) is None else ""
        return Unsaid(why, sure=stiff, instead=narrower if stiff else "")


def run(model: Model, config: Config, context: StepContext) -> Notes:
    """Cut heads out, in place."""
    check(model.module.config.model_type)
    return cut(model, config, context, units, by_number(config))


def foresee(before: Weights, config: Config) -> Weights:
    """Shrink the attentions in the table."""
    check(before.model_type)
    return before if before.head_dim is None else foreseen(before, config, located(before))


def check(model_type: str) -> None:
    """Raise RecipeError for an architecture none of whose heads can be cut."""
    reason = anatomy.refusal(model_type)
    if reason:
        family = anatomy.known(model_type)
        hint = anatomy.cut_instead(model_type) if family.headless or family.gated else None
        raise RecipeError(f"heads of {model_type} can't be cut: {reason}", hint=hint)


def located(before: Weights) -> Found:
    """Find the heads in the table."""
    model_type, width = before.model_type, before.head_dim
    assert width is not None, "config.json says how wide a head is"
    inputs = 0 if anatomy.is_transposed(model_type) else 1

    sharing = anatomy.sharing(model_type, (tensor.name for tensor in before.tensors))

    def place(name: str) -> tuple[tuple[str, str], int] | None:
        for kind in ("self", "cross"):
            axis, stack = anatomy.head_axis(model_type, name, kind), anatomy.stack_path(model_type, name)
            where = stack if (stack, kind) in sharing else anatomy.block_name(model_type, name)
            if where is not None and axis is not None:
                return (where, kind), axis
        return None

    queries: dict[tuple[str, str], int] = {}
    several: dict[tuple[str, str], int] = defaultdict(int)
    sizes: dict[tuple[str, str], list[int]] = defaultdict(list)
    for tensor in before.tensors:
        found = place(tensor.name)
        matrix = len(tensor.shape) == 2 and tensor.name.endswith(".weight")
        if found is None or not matrix or anatomy.is_table(model_type, tensor.name):
            continue
        where, axis = found
        if axis == inputs:
            queries[where] = tensor.shape[axis] // width
            several[where] += 1
        else:
            sizes[where].append(tensor.shape[axis] // width)
    return Found({where: _groups(count, sizes[where]) for where, count in queries.items()}, place, several)


def _groups(queries: int, sizes: list[int]) -> int:
    """Count the key-value heads, by the widths of the matrices that make queries, keys and values."""
    # All in one where that is wider than the queries alone.
    return (max(sizes) - queries) // 2 if max(sizes) > queries else min(sizes)


def units(module: Any) -> list[Units]:
    """Find the heads of a module."""
    found = []
    for name, _ in anatomy.blocks(module):
        for kind in anatomy.attentions(module, name):
            first, *others = anatomy.together(module, name, kind)
            if name != first:
                continue
            heads = anatomy.heads(module, name, kind)
            also = tuple((other, anatomy.output(module, other, kind)) for other in others)
            each, own = heads.shared * heads.head_dim, bool(also) and anatomy.alike(module, name, kind)
            found.append(Units(name, kind, anatomy.output(module, name, kind), heads.groups, each, also, own))
    return found
