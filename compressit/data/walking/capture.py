"""Run a model around its blocks, to learn what each block of a stack is called with.

Blocks are replaced by stand-ins that note their arguments and hand on what they got, so a pass costs next to nothing.
Every sample keeps its own mask, positions and whatever else the model computes for each block; tensors of equal content
are kept once. Only a stack whose blocks hand more to the next than the hidden states, as T5's hand on the position
bias of the first, has its first block run.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import torch
    from torch import nn

HIDDEN = "hidden_states"


class Captured(Exception):
    """The last block of a stack was reached."""


@dataclass(frozen=True)
class Call:
    """What a block is called with besides the hidden states."""

    args: tuple[Any, ...]
    kwargs: Mapping[str, Any]
    named: bool

    def run(self, block: Callable[..., Any], hidden: torch.Tensor) -> torch.Tensor:
        """Call a block; give the hidden states that come out."""
        if self.named:
            return first(block(*self.args, **{HIDDEN: hidden}, **self.kwargs))
        return first(block(hidden, *self.args, **self.kwargs))


def first(output: Any) -> torch.Tensor:
    """Take the hidden states out of a block's output."""
    found: torch.Tensor = output[0] if isinstance(output, tuple) else output
    return found


@dataclass
class Stack:
    """A stack of blocks.

    Attributes:
        blocks: In order.
        outputs: What the last block gives for a batch; None until the stack is done with.
        rest: What the first block handed on besides the hidden states, for the batch it ran last; None where blocks
            give a tensor.
        learnt: Whether `rest` is known.
    """

    blocks: Sequence[nn.Module]
    outputs: Callable[[int], torch.Tensor] | None = None
    rest: tuple[Any, ...] | None = None
    learnt: bool = False

    def like(self, hidden: torch.Tensor) -> Any:
        """Lay hidden states out as a block of the stack does."""
        return hidden if self.rest is None else (hidden, *self.rest)


def capture(
    module: nn.Module,
    stacks: Sequence[Stack],
    batches: Sequence[Mapping[str, torch.Tensor]],
    keep: Callable[[int, torch.Tensor], None],
    device: str,
    dtype: torch.dtype,
) -> list[list[Call]]:
    """Learn what each block of the last of some stacks is called with.

    Args:
        module: The model; the first block of the last stack has its weights.
        stacks: Those before the last are done with.
        batches: Inputs of the model.
        keep: Told what the first block of the last stack gets, batch by batch.
        device: Where the model computes.
        dtype: In which arithmetic; pixels come in it.

    Returns:
        By batch, the call of each block of the last stack.
    """
    shared: dict[Any, torch.Tensor] = {}
    found: list[list[Call]] = []
    with contextlib.ExitStack() as context:
        for stack in stacks[:-1]:
            for block in stack.blocks:
                context.enter_context(_replaced(block, _done(stack, found)))
        for index, block in enumerate(stacks[-1].blocks):
            stand_in = _stand_in(stacks[-1], index, block.forward, shared, found, keep, dtype)
            context.enter_context(_replaced(block, stand_in))
        for batch in batches:
            found.append([])
            with contextlib.suppress(Captured):
                module(**{name: _to(value, device, dtype) for name, value in batch.items()})
    return found


def _to(value: torch.Tensor, device: str, dtype: torch.dtype) -> torch.Tensor:
    return value.to(device, dtype if value.is_floating_point() else None)


def _done(stack: Stack, found: list[list[Call]]) -> Callable[..., Any]:
    assert stack.outputs is not None, "the stack is done with"
    outputs = stack.outputs
    return lambda *args, **kwargs: stack.like(outputs(len(found) - 1))


def _stand_in(
    stack: Stack,
    index: int,
    own: Callable[..., Any],
    shared: dict[Any, torch.Tensor],
    found: list[list[Call]],
    keep: Callable[[int, torch.Tensor], None],
    dtype: torch.dtype,
) -> Callable[..., Any]:
    def forward(*args: Any, **kwargs: Any) -> Any:
        named = HIDDEN in kwargs
        # Positions that are computed, as M2M-100's, come in float32, and so does what they are added to.
        hidden = (kwargs[HIDDEN] if named else args[0]).to(dtype)
        rest = {name: _once(value, shared) for name, value in kwargs.items() if name != HIDDEN}
        found[-1].append(Call(tuple(_once(value, shared) for value in args[0 if named else 1 :]), rest, named))
        if index == 0:
            keep(len(found) - 1, hidden)
            if not stack.learnt or any(value is not None for value in stack.rest or ()):
                output = own(*args, **{**kwargs, HIDDEN: hidden}) if named else own(hidden, *args[1:], **kwargs)
                stack.rest = _once(tuple(output[1:]), shared) if isinstance(output, tuple) else None
                stack.learnt = True
        if index == len(stack.blocks) - 1:
            raise Captured
        return stack.like(hidden)

    return forward


@contextlib.contextmanager
def _replaced(block: nn.Module, forward: Callable[..., Any]) -> Iterator[None]:
    block.forward = forward
    try:
        yield
    finally:
        del block.forward


def _once(value: Any, shared: dict[Any, torch.Tensor]) -> Any:
    """Give an equal tensor that is kept already, in tuples too; no cache, into which every pass would write."""
    import torch
    from transformers import Cache

    if isinstance(value, Cache):
        return None

    if isinstance(value, tuple):
        return tuple(_once(each, shared) for each in value)
    if not isinstance(value, torch.Tensor):
        return value
    content = value.detach().contiguous().view(torch.uint8).cpu().numpy().tobytes() if value.numel() else b""
    return shared.setdefault((value.shape, value.dtype, hash(content)), value.detach())
