"""The neurons and the heads of a block in memory: how many there are, and which matrices they lie between."""

from __future__ import annotations

import functools
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from compressit.anatomy import naming
from compressit.anatomy.describing import FFN, Attention, Between, Stack
from compressit.anatomy.stacking import blocks, stacks
from compressit.errors import StepError

if TYPE_CHECKING:
    from torch import nn


@dataclass(frozen=True)
class Heads:
    """The heads of an attention.

    Attributes:
        count: Query heads.
        groups: Key-value heads; each serves `count / groups` query heads that follow each other.
        head_dim: Width of a head.
    """

    count: int
    groups: int
    head_dim: int

    @property
    def shared(self) -> int:
        """How many query heads a key-value head serves."""
        return self.count // self.groups


def networks(module: Any, block_name: str) -> tuple[str, ...]:
    """List the kinds of feed-forward network in a block: "ffn", "experts", or both where one of these serves all."""
    block = module.get_submodule(block_name)
    described = stack(module, block_name).ffn
    alone = any(all(_has(block, path) for path in (*each.up, each.down)) for each in described)
    return (*(["ffn"] * alone), *(["experts"] * (_experts(module, block_name) is not None)))


def neurons(module: Any, block_name: str, kind: str = "ffn") -> int:
    """Count the neurons of a block's feed-forward network, or those of each of its experts."""
    if kind == "experts":
        return int(stacked(module, block_name)[1].down_proj.shape[2])
    return inputs(module.get_submodule(down(module, block_name)))


def experts(module: Any, block_name: str) -> tuple[str, ...]:
    """Name the matrices whose inputs are the neurons of each expert of a block, as checkpoints do."""
    path, holder = stacked(module, block_name)
    described = naming.known(module.config.model_type).experts
    assert described is not None, "they are stacked"
    return tuple(f"{path}.{expert}.{described.down}" for expert in range(len(holder.down_proj)))


def stacked(module: Any, block_name: str) -> tuple[str, Any]:
    """Find the module that stacks the experts of a block: its full name, and itself.

    Raises:
        StepError: there is none, or it is laid out in a way that is not known.
    """
    path = _experts(module, block_name)
    if path is None:
        raise StepError(f"{block_name} of {module.config.model_type} has no experts")
    holder = module.get_submodule(path)
    held = {leaf for leaf, _ in holder.named_parameters()}
    if held != {"gate_up_proj", "down_proj"}:
        raise StepError(f"the experts in {path} are laid out in a way that is not known: {', '.join(sorted(held))}")
    return path, holder


def _experts(module: Any, block_name: str) -> str | None:
    described = naming.known(module.config.model_type).experts
    if described is None:
        return None
    held = module.get_submodule(block_name).named_modules()
    return next((f"{block_name}.{name}" for name, _ in held if f".{name}".endswith(f".{described.module}")), None)


def down(module: Any, block_name: str) -> str:
    """Name the matrix whose inputs are the neurons of a block: its full name, without ".weight"."""
    return f"{block_name}.{ffn(module, block_name).down}"


def up(module: Any, block_name: str) -> tuple[str, ...]:
    """Name the matrices whose outputs are the neurons of a block: full names, without ".weight".

    A gated network has two; where they lie in one, its rows are those of the one, then those of the other.
    """
    return tuple(f"{block_name}.{path}" for path in ffn(module, block_name).up)


def between(module: Any, block_name: str) -> tuple[str, ...]:
    """Name the convolutions of a block whose inputs are channels that nothing else reads: full names."""
    block = module.get_submodule(block_name)
    return tuple(f"{block_name}.{each.down}" for each in stack(module, block_name).between if _has(block, each.down))


def link(module: Any, convolution: str) -> Between:
    """Name what lies around the channels that a convolution named by `between` reads: full names."""
    own = naming.place(module.config.model_type, convolution)
    assert own is not None, "it lies in a block"
    found = next(each for each in own.stack.between if each.down == own.below)
    return Between(*(f"{own.block}.{path}" for path in (found.up, found.norm, found.down, found.after)))


def attentions(module: Any, block_name: str) -> tuple[str, ...]:
    """List the kinds of attention in a block: "self", and "cross" in some decoders."""
    block = module.get_submodule(block_name)
    return tuple(each.kind for each in stack(module, block_name).attention if _has(block, each.output))


def heads(module: Any, block_name: str, kind: str = "self") -> Heads:
    """Count the heads of a block's attention."""
    described = attention(module, block_name, kind)
    block = module.get_submodule(block_name)
    holder = block.get_submodule(described.module)
    width = int(getattr(holder, described.head_dim))
    count = inputs(block.get_submodule(described.output)) // width
    if described.key_value:
        return Heads(count, outputs(holder.get_submodule(described.key_value[0])) // width, width)
    assert described.fused is not None, "heads have matrices of their own, or one for all"
    groups = (outputs(holder.get_submodule(described.fused)) // width - count) // 2
    return Heads(count, groups, width)


def together(module: Any, block_name: str, kind: str = "self") -> tuple[str, ...]:
    """Name the blocks that lose heads with one, itself among them: all of a stack that shares what is made of heads."""
    described = attention(module, block_name, kind)
    if not described.alike and table(module, described) is None:
        return (block_name,)
    own = naming.place(module.config.model_type, block_name)
    assert own is not None, "it has an attention"
    lists = stacks(module)
    return tuple(name for name, _ in lists[naming.known(module.config.model_type).stacks.index(own.stack)])


def alike(module: Any, block_name: str, kind: str = "self") -> bool:
    """Tell whether blocks `together` lose as many heads, but each its own; otherwise they lose the same ones."""
    described = attention(module, block_name, kind)
    return described.alike and table(module, described) is None


def table(module: Any, described: Attention) -> tuple[nn.Module, str] | None:
    """Find the position biases that all blocks of a stack add: the module that holds them, and what it calls them."""
    owner, _, leaf = (described.shared or "").rpartition(".")
    try:
        holder = module.base_model.get_submodule(owner)
    except AttributeError:
        return None
    return (holder, leaf) if owner and hasattr(holder, leaf) else None


def output(module: Any, block_name: str, kind: str = "self") -> str:
    """Name the matrix whose inputs are heads x head width, head by head: its full name, without ".weight"."""
    return f"{block_name}.{attention(module, block_name, kind).output}"


def projections(module: Any, block_name: str) -> dict[str, Callable[[Any], dict[str, Any]]]:
    """Name the matrices that make a block's queries, keys and values, and say how to read these off what each gives.

    What is read is (..., heads x head width), by "query", "key" and "value".
    """
    described, own = attention(module, block_name), heads(module, block_name)
    holder = module.get_submodule(block_name).get_submodule(described.module)
    held = {name for name, _ in holder.named_modules()}
    path = f"{block_name}.{described.module}" if described.module else block_name
    if described.fused in held:
        return {f"{path}.{described.fused}": functools.partial(_apart, own, described.interleaved)}
    # DeBERTa has others for positions, which come after.
    names = [each for each in described.query if each in held][:1]
    names += [each for each in described.key_value if each in held][:2]
    kinds = zip(("query", "key", "value"), names, strict=True)
    return {f"{path}.{name}": functools.partial(_alone, kind) for kind, name in kinds}


def fused(module: Any, block_name: str) -> list[tuple[str, ...]]:
    """Name the matrices of a block that runtimes lay into one, so that they have to be stored alike: full names.

    What makes queries, keys and values is one set for each attention, the two matrices of a gated network another.
    """
    found = []
    block = module.get_submodule(block_name)
    for kind in attentions(module, block_name):
        described = attention(module, block_name, kind)
        above = f"{described.module}." if described.module else ""
        paths = [above + leaf for leaf in (*described.query, *described.key_value)]
        found.append(tuple(f"{block_name}.{path}" for path in paths if _has(block, path)))
    if "ffn" in networks(module, block_name):
        found.append(up(module, block_name))
    return [names for names in found if len(names) > 1]


def _alone(kind: str, made: Any) -> dict[str, Any]:
    return {kind: made}


def _apart(own: Heads, interleaved: bool, made: Any) -> dict[str, Any]:
    """Take queries, keys and values apart that one matrix made."""
    if interleaved:
        parts = [each.flatten(-2) for each in made.unflatten(-1, (own.count, -1)).chunk(3, -1)]
    else:
        sizes = [count * own.head_dim for count in (own.count, own.groups, own.groups)]
        parts = list(made.split(sizes, -1))
    return dict(zip(("query", "key", "value"), parts, strict=True))


def scale(module: Any, matrix: str) -> Any:
    """Give what each output of a block's matrix or convolution is multiplied by next, (O,); None where it isn't."""
    own = naming.place(module.config.model_type, matrix)
    if own is None:
        return None
    after = next((each.after for each in own.stack.between if each.down == own.below), None)
    if after is not None:
        norm = module.get_submodule(f"{own.block}.{after}")
        return norm.weight * (norm.running_var + norm.eps).rsqrt()
    block = module.get_submodule(own.block)
    path = next((each.scale for each in own.stack.ffn if each.down == own.below and each.scale), None)
    return None if path is None else getattr(block, path, None)


def width(module: Any) -> int:
    """Count the channels that flow between blocks: what the output matrix of an attention gives."""
    name, _ = blocks(module)[0]
    kinds = attentions(module, name)
    if not kinds:
        raise StepError(f"how wide a {module.config.model_type} is is read off its attention, and it has none")
    return outputs(module.get_submodule(output(module, name, kinds[0])))


def ffn(module: Any, block_name: str) -> FFN:
    """Find the description of a block's feed-forward network."""
    block = module.get_submodule(block_name)
    for each in stack(module, block_name).ffn:
        if all(_has(block, path) for path in (*each.up, each.down)):
            return each
    model_type = module.config.model_type
    if stack(module, block_name).between:
        raise StepError(f"blocks of {model_type} have no feed-forward network", hint=naming.cut_instead(model_type))
    raise StepError(
        f"where {block_name} of {model_type} keeps its feed-forward network is not described",
        hint=f"add an FFN to {naming.file(model_type)}",
    )


def attention(module: Any, block_name: str, kind: str = "self") -> Attention:
    """Find the description of a block's attention."""
    block = module.get_submodule(block_name)
    for each in stack(module, block_name).attention:
        if each.kind == kind and _has(block, each.output):
            return each
    model_type = module.config.model_type
    raise StepError(
        f"where {block_name} of {model_type} keeps its {kind}-attention is not described",
        hint=f"add an Attention to {naming.file(model_type)}",
    )


def members(module: Any, block_name: str, kind: str) -> tuple[str, ...]:
    """Name the modules that make up a part of a block: full names.

    It is a network, "ffn" or "experts", an attention of a kind, or the convolutions that have "channels" between them.
    """
    if kind == "ffn":
        return (*up(module, block_name), down(module, block_name))
    if kind == "experts":
        return (stacked(module, block_name)[0],)
    if kind == "channels":
        links = (link(module, each) for each in between(module, block_name))
        return tuple(dict.fromkeys(name for each in links for name in (each.up, each.norm, each.down, each.after)))
    described = attention(module, block_name, kind)
    holder = f"{block_name}.{described.module}"
    last = f"{block_name}.{described.output}"
    return (holder,) if last.startswith(f"{holder}.") else (holder, last)


def inputs(part: nn.Module) -> int:
    """Count the inputs of a matrix."""
    return int(weight(part).shape[1 - _output_axis(part)])


def outputs(part: nn.Module) -> int:
    """Count the outputs of a matrix."""
    return int(weight(part).shape[_output_axis(part)])


def weight(part: nn.Module) -> Any:
    """Give the weight of a matrix, as its module holds it."""
    from torch import nn
    from transformers.pytorch_utils import Conv1D

    part = _itself(part)
    if not isinstance(part, nn.Linear | Conv1D) or not hasattr(part, "weight"):
        raise StepError(f"{type(part).__name__} is no layer that heads or neurons can be cut out of")
    return part.weight


def _output_axis(part: nn.Module) -> int:
    from torch import nn

    return 0 if isinstance(_itself(part), nn.Linear) else 1


def _itself(part: nn.Module) -> Any:
    """Take a layer out of what adds thin matrices to it while it is trained."""
    return getattr(part, "base_layer", part)


def stack(module: Any, block_name: str) -> Stack:
    """Find the description of the stack that a block is in."""
    model_type = module.config.model_type
    naming.family(model_type)
    found = naming.place(model_type, block_name)
    if found is None or found.below:
        raise StepError(f"{block_name} is no transformer block of this {model_type}")
    return found.stack


def _has(block: nn.Module, path: str) -> bool:
    return any(name == path for name, _ in block.named_modules())
