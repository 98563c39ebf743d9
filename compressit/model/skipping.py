"""Run a model as if some of its blocks were not there."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Mapping
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from compressit.model.whole import Model

Rests = dict[int, "tuple[Any, ...] | None"]
"""What each block hands on besides the hidden states, by its number; None where it gives a tensor."""


@contextlib.contextmanager
def noting(model: Model) -> Iterator[Rests]:
    """Note what each block hands on besides the hidden states, while the model runs."""
    rests: Rests = {}

    def note(index: int) -> Callable[..., None]:
        def hook(block: Any, args: Any, output: Any) -> None:
            rests[index] = output[1:] if isinstance(output, tuple) else None

        return hook

    with contextlib.ExitStack() as stack:
        for index, (_, block) in enumerate(model.blocks()):
            stack.callback(block.register_forward_hook(note(index)).remove)
        yield rests


@contextlib.contextmanager
def skipping(model: Model, rests: Mapping[int, tuple[Any, ...] | None]) -> Iterator[None]:
    """Have blocks hand on what they get, and what goes along with it; they are counted over all stacks."""

    def handing_on(rest: tuple[Any, ...] | None) -> Callable[..., Any]:
        def forward(*args: Any, **kwargs: Any) -> Any:
            hidden = args[0] if args else kwargs["hidden_states"]
            return hidden if rest is None else (hidden, *rest)

        return forward

    blocks = [model.blocks()[index][1] for index in rests]
    for block, rest in zip(blocks, rests.values(), strict=True):
        block.forward = handing_on(rest)
    try:
        yield
    finally:
        for block in blocks:
            del block.forward
