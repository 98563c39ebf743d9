"""What config.json will be able to say of shapes after cuts, as names and shapes tell it: `settling` without torch."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping

from compressit.anatomy.naming import is_transposed, known, place


def neurons_said(model_type: str) -> bool:
    """Tell whether config.json is sure to say any number of neurons that all blocks have."""
    return any(stack.ffn for stack in known(model_type).stacks) and not neurons_follow(model_type)


def neurons_follow(model_type: str) -> bool:
    """Tell whether config.json says how many neurons there are by how wide the model is."""
    found = [ffn for stack in known(model_type).stacks for ffn in stack.ffn]
    return any(not ffn.size or ffn.times for ffn in found)


def heads_said(model_type: str) -> bool:
    """Tell whether config.json says how wide a head is, and so any number of them beside any width."""
    return all(attention.keys.head_dim for stack in known(model_type).stacks for attention in stack.attention)


def heads_fit(model_type: str, shapes: Mapping[str, tuple[int, ...]], head_dim: int | None) -> bool:
    """Tell whether config.json is sure to say the heads that a model is left with, and its width.

    Args:
        model_type: The architecture.
        shapes: Of its tensors, by their names in memory.
        head_dim: Width of a head; None where it isn't known.
    """
    inputs, found = 0 if is_transposed(model_type) else 1, defaultdict(set)
    for name, shape in shapes.items():
        within = place(model_type, name)
        for attention in within.stack.attention if within else ():
            if within is None or within.below != f"{attention.output}.weight":
                continue
            heads, wide = shape[inputs], shape[1 - inputs]
            # Some configs want the width to be a multiple of the number of heads, whatever a head's width.
            if wide % (heads // head_dim) if attention.keys.head_dim and head_dim else heads != wide:
                return False
            found[attention.keys.heads].add(heads)
    return all(len(counts) == 1 for counts in found.values())
