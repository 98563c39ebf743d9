"""Scales that fold into a block: channels that one thing gives and that matrices alone read.

What gives a channel is divided by a scale, what reads it is multiplied by that scale, and the block computes what it
did. A norm gives channels, and so do the values of an attention, which its output matrix reads, and those neurons of a
gated network that no activation function changes. Which norms can be folded into is written down for each architecture;
the rest follows from where heads and neurons lie.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from compressit.anatomy import naming, parts
from compressit.anatomy.parts import Heads
from compressit.errors import StepError

if TYPE_CHECKING:
    import torch
    from torch import nn


@dataclass(frozen=True)
class Side:
    """Where the channels lie in a tensor.

    Attributes:
        tensor: Its full name.
        axis: Along which they lie, in that of one expert where it is one.
        places: Where along the axis; None where they are all of it.
        expert: Its place in a stack of experts; None where it is the whole tensor.
        offset: What is added to the numbers before they are used.
    """

    tensor: str
    axis: int
    places: Sequence[int] | None = None
    expert: int | None = None
    offset: float = 0.0


@dataclass(frozen=True)
class Fold:
    """Channels that a scale can be folded into.

    Attributes:
        kind: What gives them: "norms", "values" or "neurons".
        gives: All that gives them.
        reads: All that reads them.
        heads: Channels are those of key-value heads, each of which as many query heads read as it serves; None where
            each is read once.
    """

    kind: str
    gives: tuple[Side, ...]
    reads: tuple[Side, ...]
    heads: Heads | None = None

    def is_read_by(self, parameter: str, expert: int | None) -> bool:
        """Tell whether a matrix, or one expert's, reads the channels."""
        return any(side.tensor == parameter and side.expert in (None, expert) for side in self.reads)

    def spread(self, scale_C: torch.Tensor) -> torch.Tensor:
        """Give each input of what reads the channels its channel's number: (C,) -> (I,)."""
        if self.heads is None:
            return scale_C
        own = self.heads
        return scale_C.unflatten(0, (own.groups, 1, own.head_dim)).expand(-1, own.shared, -1).flatten()

    def gather(self, seen_I: torch.Tensor) -> torch.Tensor:
        """Give each channel the numbers of all inputs that read it: (I,) -> (C, S)."""
        if self.heads is None:
            return seen_I[:, None]
        own = self.heads
        return seen_I.unflatten(0, (own.groups, own.shared, own.head_dim)).transpose(1, 2).flatten(0, 1)

    def apply(self, tensors: Mapping[str, torch.Tensor], scale_C: torch.Tensor) -> None:
        """Divide what gives the channels by a scale, and multiply what reads them, in place."""
        # As exact as a tensor of any type may be.
        scale_C = scale_C.double()
        for side in self.gives:
            multiply(tensors[side.tensor], side, 1 / scale_C)
        for side in self.reads:
            multiply(tensors[side.tensor], side, self.spread(scale_C))


def folds(module: Any, block_name: str) -> list[Fold]:
    """Find what can be folded into a block.

    Raises:
        StepError: the architecture is not known; or what would be changed is used elsewhere, too.
    """
    found = [*_norms(module, block_name), *_values(module, block_name), *_neurons(module, block_name)]
    state = module.state_dict(keep_vars=True)
    uses = Counter(id(tensor) for tensor in state.values())
    tied = getattr(module, "all_tied_weights_keys", None) or {}
    for fold in found:
        for side in (*fold.gives, *fold.reads):
            if side.tensor not in state:
                owner = side.tensor.rpartition(".")[0]
                raise StepError(
                    f"{owner} has no weights of its own that a scale could be folded into",
                    hint="scale before layers are put in the place of others",
                )
            if uses[id(state[side.tensor])] > 1 or side.tensor in {*tied.keys(), *tied.values()}:
                raise StepError(
                    f"{side.tensor} is tied to another tensor, and no scale can be folded into both",
                    hint="leave the layers out that read it: exclude: [...]",
                )
    return found


def _norms(module: Any, block_name: str) -> Iterator[Fold]:
    block, described = module.get_submodule(block_name), parts.stack(module, block_name)
    held = dict(block.named_modules())
    offset = naming.family(module.config.model_type).width.offset
    for norm in described.norms:
        scales = getattr(held.get(norm.path), "weight", None) is not None
        if not scales or (norm.when is not None and not getattr(module.config, norm.when)):
            continue
        gives = [Side(f"{block_name}.{norm.path}.weight", 0, offset=offset)]
        if getattr(held[norm.path], "bias", None) is not None:
            gives.append(Side(f"{block_name}.{norm.path}.bias", 0))
        reads = [_inputs(f"{block_name}.{path}", held[path]) for path in norm.readers if path in held]
        yield Fold("norms", tuple(gives), tuple(reads))


def _values(module: Any, block_name: str) -> Iterator[Fold]:
    block = module.get_submodule(block_name)
    for kind in parts.attentions(module, block_name):
        described, heads = parts.attention(module, block_name, kind), parts.heads(module, block_name, kind)
        above = f"{described.module}." if described.module else ""
        if described.fused is None:
            path, rows = above + described.key_value[1], None
        else:
            path, rows = above + described.fused, _value_rows(heads, interleaved=described.interleaved)
        reader = _inputs(f"{block_name}.{described.output}", block.get_submodule(described.output))
        gives = tuple(_outputs(f"{block_name}.{path}", block.get_submodule(path), rows))
        yield Fold("values", gives, (reader,), heads if heads.shared > 1 else None)


def _value_rows(heads: Heads, *, interleaved: bool) -> Sequence[int]:
    """Find the rows of the values where one matrix makes queries, keys and values."""
    width = heads.head_dim
    if not interleaved:
        first = (heads.count + heads.groups) * width
        return range(first, first + heads.groups * width)
    return [head * 3 * width + 2 * width + row for head in range(heads.count) for row in range(width)]


def _neurons(module: Any, block_name: str) -> Iterator[Fold]:
    block, kinds = module.get_submodule(block_name), parts.networks(module, block_name)
    if "ffn" in kinds:
        described, count = parts.ffn(module, block_name), parts.neurons(module, block_name)
        # The function that makes a network of one matrix would be given other numbers; a gate lets the second through.
        if described.halves or len(described.up) == 2:
            path, rows = described.up[-1], range(count, 2 * count) if described.halves else None
            gives = tuple(_outputs(f"{block_name}.{path}", block.get_submodule(path), rows))
            reader = _inputs(f"{block_name}.{described.down}", block.get_submodule(described.down))
            yield Fold("neurons", gives, (reader,))
    if "experts" in kinds:
        path, holder = parts.stacked(module, block_name)
        count = parts.neurons(module, block_name, "experts")
        for expert in range(len(holder.down_proj)):
            gives = (Side(f"{path}.gate_up_proj", 0, range(count, 2 * count), expert),)
            yield Fold("neurons", gives, (Side(f"{path}.down_proj", 1, expert=expert),))


def _inputs(name: str, part: nn.Module) -> Side:
    """Find the inputs of a matrix, of a router, or of a stack of experts."""
    if hasattr(part, "gate_up_proj"):
        return Side(f"{name}.gate_up_proj", 2)
    return Side(f"{name}.weight", 0 if _is_transposed(part) else 1)


def _outputs(name: str, part: nn.Module, rows: Sequence[int] | None) -> Iterator[Side]:
    yield Side(f"{name}.weight", 1 if _is_transposed(part) else 0, rows)
    if getattr(part, "bias", None) is not None:
        yield Side(f"{name}.bias", 0, rows)


def _is_transposed(part: nn.Module) -> bool:
    from transformers.pytorch_utils import Conv1D

    return isinstance(part, Conv1D)


def multiply(tensor: torch.Tensor, side: Side, factor_C: torch.Tensor) -> None:
    """Multiply each channel of a tensor by a number, in place."""
    import torch

    with torch.no_grad():
        whole = tensor if side.expert is None else tensor[side.expert]
        shape = [1] * whole.dim()
        shape[side.axis] = -1
        exact = torch.promote_types(whole.dtype, torch.float32)
        factor = factor_C.to(whole.device, exact).view(shape)
        if side.places is None:
            whole.copy_((whole.to(exact) + side.offset) * factor - side.offset)
        else:
            places = torch.tensor(list(side.places), device=whole.device)
            part = (whole.index_select(side.axis, places).to(exact) + side.offset) * factor - side.offset
            whole.index_copy_(side.axis, places, part.to(whole.dtype))
