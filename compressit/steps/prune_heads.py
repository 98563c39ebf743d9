"""Cut attention heads out, for good: the matrices around them get smaller.

Where several query heads share a key-value head they go with it. Which ones go is decided as in `prune_ffn`. Few
architectures can say a changed number of heads in config.json; for the others `compressit.load` opens the checkpoint,
and an export opens anywhere.

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
from compressit.steps import Notes, StepContext
from compressit.steps._cutting import BlockConfig, Found, by_number, cut
from compressit.steps._cutting import foresee as foreseen
from compressit.steps._importance import Units
from compressit.weights import Weights


class Config(BlockConfig):
    """Fields of the step."""


def run(model: Model, config: Config, context: StepContext) -> Notes:
    """Cut heads out, in place."""
    return cut(model, config, context, units, by_number(config))


def foresee(before: Weights, config: Config) -> Weights:
    """Shrink the attentions in the table."""
    return before if before.head_dim is None else foreseen(before, config, located(before))


def located(before: Weights) -> Found:
    """Find the heads in the table; an error where none can be cut."""
    model_type, width = before.model_type, before.head_dim
    reason = anatomy.refusal({"model_type": model_type})
    if reason:
        raise RecipeError(f"heads of {model_type} can't be cut: {reason}")
    assert width is not None, "config.json says how wide a head is"
    inputs = 0 if anatomy.is_transposed(model_type) else 1

    def place(name: str) -> tuple[tuple[str, str], int] | None:
        for kind in ("self", "cross"):
            block, axis = anatomy.block_name(model_type, name), anatomy.head_axis(model_type, name, kind)
            if block is not None and axis is not None:
                return (block, kind), axis
        return None

    queries: dict[tuple[str, str], int] = {}
    sizes: dict[tuple[str, str], list[int]] = defaultdict(list)
    for tensor in before.tensors:
        found = place(tensor.name)
        if found is None or len(tensor.shape) != 2 or not tensor.name.endswith(".weight"):
            continue
        where, axis = found
        if axis == inputs:
            queries[where] = tensor.shape[axis] // width
        else:
            sizes[where].append(tensor.shape[axis] // width)
    return Found({where: _groups(count, sizes[where]) for where, count in queries.items()}, place)


def _groups(queries: int, sizes: list[int]) -> int:
    """Count the key-value heads, by the widths of the matrices that make queries, keys and values."""
    # All in one where that is wider than the queries alone.
    return (max(sizes) - queries) // 2 if max(sizes) > queries else min(sizes)


def units(module: Any) -> list[Units]:
    """Find the heads of a module."""
    found = []
    for name, _ in anatomy.blocks(module):
        for kind in anatomy.attentions(module, name):
            heads = anatomy.heads(module, name, kind)
            output = anatomy.output(module, name, kind)
            found.append(Units(name, kind, output, heads.groups, heads.shared * heads.head_dim))
    return found
