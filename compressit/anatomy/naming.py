"""What the name of a tensor says: which block it belongs to, how checkpoints spell it, what a cut takes from it."""

from __future__ import annotations

import functools
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import Any

from compressit.anatomy import families
from compressit.anatomy.describing import Attention, Family, Stack
from compressit.errors import StepError


@dataclass(frozen=True)
class Place:
    """Where a name leads to: a stack, the full name of a block in it, its number, and the rest below the block."""

    stack: Stack
    block: str
    index: int
    below: str


def family(model_type: str) -> Family:
    """Look a family up; an error that says how to add it if it isn't there."""
    if not known(model_type).stacks:
        raise StepError(
            f"the anatomy of model type {model_type!r} is not known",
            hint=f"add it: {file(model_type)}; known: {', '.join(families.names())}",
        )
    return known(model_type)


@functools.cache
def known(model_type: str) -> Family:
    """Look a family up; one without stacks if it isn't there."""
    try:
        found: Family = families.load(model_type).FAMILY
    except LookupError:
        return Family(())
    return found


def file(model_type: str) -> str:
    """Name the file that describes a family."""
    return f"compressit/anatomy/families/{model_type.replace('-', '_')}.py"


def place(model_type: str, name: str) -> Place | None:
    """Find what a name in memory leads to; None outside the blocks. A block's own name leads to it."""
    for stack in known(model_type).stacks:
        path = re.escape(stack.path).replace(r"\*", r"\d+")
        found = re.search(rf"(?:^|\.){path}\.(?P<index>\d+)(?:\.|$)", name)
        if found:
            return Place(stack, name[: found.end("index")], int(found.group("index")), name[found.end() :])
    return None


def inner(model_type: str, name: str) -> str:
    """Take off a name what comes before the list of blocks, which depends on what is built around the base model."""
    found = place(model_type, name)
    if found is None:
        return name
    levels = found.stack.path.count(".") + 2
    return ".".join([*found.block.split(".")[-levels:], *([found.below] if found.below else [])])


def module_name(model_type: str, saved: str) -> str:
    """Spell a checkpoint's tensor name as the module in memory does."""
    return _respelled(saved, known(model_type).saved)


def saved_name(model_type: str, name: str) -> str:
    """Spell a name in memory as checkpoints do."""
    return _respelled(name, [(memory, saved) for saved, memory in known(model_type).saved])


def block_index(model_type: str, name: str) -> int | None:
    """Find which block a tensor belongs to, by its name in memory; None outside the blocks.

    Blocks are counted within their stack.
    """
    found = place(model_type, name)
    return found.index if found else None


def block_name(model_type: str, name: str) -> str | None:
    """Find the full name of the block that a tensor belongs to; None outside the blocks."""
    found = place(model_type, name)
    return found.block if found else None


def neuron_axis(model_type: str, name: str) -> int | None:
    """Say along which axis of a tensor the neurons of its block's feed-forward network, or experts, lie; None for none.

    Its size along that axis is in proportion to their number.
    """
    found = place(model_type, name)
    if found is None:
        return None
    owner, _, leaf = found.below.rpartition(".")
    experts = known(model_type).experts
    if experts is not None and f".{owner}".endswith(f".{experts.module}"):
        # As the module in memory stacks them.
        return {"gate_up_proj": 1, "down_proj": 2}.get(leaf)
    if experts is not None and is_expert(model_type, name):
        part = owner.rpartition(".")[2]
        return 0 if part in experts.gate_up else 1 if part == experts.down else None
    outputs = {path for ffn in found.stack.ffn for path in ffn.up}
    return _axis(model_type, owner, leaf, outputs, {ffn.down for ffn in found.stack.ffn})


def between_axes(model_type: str, name: str) -> list[tuple[str, int]]:
    """Say along which axes of a tensor channels between two convolutions of its block lie.

    Returns:
        The name of the second convolution of the two, and the axis; a convolution may be the first of two others.
    """
    found = place(model_type, name)
    if found is None:
        return []
    owner, _, leaf = found.below.rpartition(".")
    axes = []
    for each in found.stack.between:
        where = f"{found.block}.{each.down}"
        if owner == each.down and leaf == "weight":
            axes.append((where, 1))
        if owner in (each.up, each.norm) and leaf in ("weight", "bias", "running_mean", "running_var"):
            axes.append((where, 0))
    return axes


def met(config: Mapping[str, Any]) -> int | None:
    """Read in a parsed config.json how many experts of a block a token meets; None where there are none."""
    experts = known(str(config.get("model_type"))).experts
    said = config.get(experts.met) if experts else None
    return said if isinstance(said, int) else None


def head_axis(model_type: str, name: str, kind: str = "self") -> int | None:
    """Say along which axis of a tensor the heads of its block's attention lie; None along none.

    Its size along that axis is in proportion to their number, where key-value heads go with their query heads.
    """
    if any(attention.kind == kind for _, attention in _tables(model_type, name)):
        return 1
    found = place(model_type, name)
    if found is None:
        return None
    owner, _, leaf = found.below.rpartition(".")
    attentions = [attention for attention in found.stack.attention if attention.kind == kind]
    if any(found.below in attention.tables for attention in attentions):
        return 1
    outputs = {
        f"{attention.module}.{path}"
        for attention in attentions
        for path in (*attention.query, *attention.key_value, *([attention.fused] if attention.fused else []))
    }
    return _axis(model_type, owner, leaf, outputs, {attention.output for attention in attentions})


def is_table(model_type: str, name: str) -> bool:
    """Tell whether a tensor holds position biases that all blocks of a stack add to their scores."""
    return bool(_tables(model_type, name))


def sharing(model_type: str, names: Iterable[str]) -> frozenset[tuple[str, str]]:
    """Find where all blocks of a stack have to lose as many heads: its path, and the kind of attention.

    Args:
        model_type: The architecture.
        names: Of the tensors that a model has: some models of a family share a table of position biases, some don't.
    """
    held = {(stack.path, own.kind) for name in names for stack, own in _tables(model_type, name)}
    stacks = known(model_type).stacks
    return frozenset(held | {(stack.path, own.kind) for stack in stacks for own in stack.attention if own.alike})


def stack_path(model_type: str, name: str) -> str | None:
    """Find which stack the blocks belong to that a tensor is for; None where it is for none."""
    tables = _tables(model_type, name)
    found = tables[0][0] if tables else getattr(place(model_type, name), "stack", None)
    return found.path if found else None


def _tables(model_type: str, name: str) -> list[tuple[Stack, Attention]]:
    return [
        (stack, attention)
        for stack in known(model_type).stacks
        for attention in stack.attention
        if attention.shared and f".{name}".endswith(f".{attention.shared}")
    ]


def unit_axes(model_type: str, name: str) -> set[int]:
    """Say along which axes of a tensor neurons, heads or channels between convolutions lie."""
    found = {neuron_axis(model_type, name), head_axis(model_type, name), head_axis(model_type, name, "cross")}
    return {axis for axis in found if axis is not None} | {axis for _, axis in between_axes(model_type, name)}


def head_dim(config: Mapping[str, Any]) -> int | None:
    """Read the width of a head in a parsed config.json; None where it, or the anatomy, doesn't say."""
    stacks = known(str(config.get("model_type"))).stacks
    keys = [attention.keys for stack in stacks for attention in stack.attention]
    if not keys:
        return None
    said = config.get(keys[0].head_dim) if keys[0].head_dim else None
    wide, heads = width(config), head_count(config)
    return said or (wide // heads if wide and heads else None)


def heads_key(model_type: str) -> str:
    """Name the key of config.json that counts heads."""
    return next(attention.keys.heads for stack in family(model_type).stacks for attention in stack.attention)


def head_count(config: Mapping[str, Any]) -> int | None:
    """Read the number of query heads in a parsed config.json; None where it, or the anatomy, doesn't say."""
    stacks = known(str(config.get("model_type"))).stacks
    keys = [attention.keys.heads for stack in stacks for attention in stack.attention]
    said = config.get(keys[0]) if keys else None
    return said if isinstance(said, int) else None


def heads_described(model_type: str) -> bool:
    """Tell whether it is described where all blocks of an architecture keep their heads."""
    return all(stack.attention for stack in family(model_type).stacks)


def width(config: Mapping[str, Any]) -> int | None:
    """Read in a parsed config.json how wide what flows between blocks is; None where it doesn't say."""
    said = config.get(known(str(config.get("model_type"))).width.key)
    return said if isinstance(said, int) else None


def refusal(model_type: str) -> str | None:
    """Say why heads can't be cut out of an architecture; None where they can.

    Raises:
        StepError: the architecture is not known.
    """
    if any(stack.attention for stack in family(model_type).stacks):
        return None
    if family(model_type).headless:
        return f"{model_type} has no heads"
    if why := family(model_type).gated:
        return why
    return f"where {model_type} keeps its heads is not described: add an Attention to {file(model_type)}"


def whole(model_type: str) -> str | None:
    """Say why no block can be dropped out of an architecture; None where some can."""
    found = known(model_type)
    if found.repeated:
        return f"all layers of {model_type} share their blocks: none can be dropped"
    return None


def staged(model_type: str) -> bool:
    """Tell whether an architecture is made of stages, between which pictures get narrower and channels more."""
    return any(stack.staged for stack in known(model_type).stacks)


def raw(model_type: str) -> bool:
    """Tell whether an architecture convolves what it is given as it comes, which is float32."""
    return staged(model_type) or known(model_type).raw


def cut_instead(model_type: str) -> str:
    """Say which step cuts what the blocks of an architecture hold, and what that is."""
    if any(stack.between for stack in known(model_type).stacks):
        return "prune_channels cuts between convolutions"
    whole = known(model_type).headless or known(model_type).gated
    return "prune_ffn cuts neurons" if whole else "prune_structured cuts heads and neurons"


def as_wide(model_type: str) -> str | None:
    """Say why no channel can be cut out of an architecture; None where some can."""
    if staged(model_type):
        return f"each stage of {model_type} has a width of its own: no channel can go out of all of them"
    if known(model_type).width.computed:
        return f"positions of {model_type} are computed for the width it has: no channel can go"
    return None


def is_left(model_type: str, name: str) -> bool:
    """Tell whether a two-dimensional weight is not one that is compressed."""
    return any(fnmatchcase(name, pattern) for pattern in known(model_type).left)


def is_expert(model_type: str, name: str) -> bool:
    """Tell whether a matrix belongs to one of several experts."""
    return expert_number(model_type, name) is not None


def expert_number(model_type: str, name: str) -> int | None:
    """Give the number in its block of the expert that a tensor belongs to, as checkpoints spell it; None for others."""
    experts = known(model_type).experts
    found = re.search(rf"\.{re.escape(experts.module)}\.(\d+)\.", name) if experts else None
    return int(found[1]) if found else None


def is_router(model_type: str, name: str) -> bool:
    """Tell whether a tensor has a row for each expert of its block."""
    experts, within = known(model_type).experts, place(model_type, name)
    return experts is not None and within is not None and f".{within.below}".endswith(f".{experts.router}.weight")


def expert_pattern(model_type: str) -> str:
    """Give the regular expression that compressed-tensors is to find the experts by."""
    experts = known(model_type).experts
    assert experts is not None, "it has some"
    return rf"re:.*\.{re.escape(experts.module)}\.\d+\..*"


def is_transposed(model_type: str) -> bool:
    """Tell whether the matrices inside the blocks lie as (inputs, outputs)."""
    return known(model_type).transposed


def is_embedding(name: str) -> bool:
    """Tell an embedding by the name of the module that holds it."""
    return "embed" in name or name.rpartition(".")[2] in ("wte", "wpe", "shared")


def _axis(model_type: str, owner: str, leaf: str, outputs: set[str], inputs: set[str]) -> int | None:
    if owner in outputs and leaf in ("weight", "bias"):
        return int(is_transposed(model_type) and leaf == "weight")
    if owner in inputs and leaf == "weight":
        return int(not is_transposed(model_type))
    return None


def _respelled(name: str, pairs: Sequence[tuple[str, str]]) -> str:
    for old, new in pairs:
        # A path that starts inside a name may also start it.
        start = re.escape(old) if old.startswith(".") else rf"(?:(?<=\.)|^){re.escape(old)}"
        follow = r"(?=\d)" if not old.startswith(".") else ""
        name = re.sub(start + follow, new, name)
    return name
