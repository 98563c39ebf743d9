"""What goes on between the blocks of a model while it runs, for a teacher to show and a student to imitate."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from compressit import anatomy

if TYPE_CHECKING:
    import torch


@dataclass
class Layer:
    """One block's share of a forward pass.

    Attributes:
        given: What the block got, (B, L, D).
        made: What it gave, (B, L, D).
        relating: Its queries, keys and values, (B, L, heads x head width) each.
    """

    given: torch.Tensor
    made: torch.Tensor | None = None
    relating: dict[str, torch.Tensor] = field(default_factory=dict)


@contextlib.contextmanager
def tapped(module: Any, *, relating: bool) -> Iterator[list[Layer]]:
    """Note what each block gets and gives, in the order in which blocks run; the list starts anew with each pass.

    Args:
        module: A transformers model whose blocks form one stack.
        relating: Note queries, keys and values too.
    """
    layers: list[Layer] = []

    def begin(part: Any, args: Any, kwargs: Any) -> None:
        layers.append(Layer(args[0] if args else kwargs["hidden_states"]))

    def end(part: Any, args: Any, out: Any) -> None:
        layers[-1].made = out[0] if isinstance(out, tuple | list) else out

    with contextlib.ExitStack() as stack:
        stack.callback(module.register_forward_pre_hook(lambda *unused: layers.clear()).remove)
        for name, block in anatomy.blocks(module):
            stack.callback(block.register_forward_pre_hook(begin, with_kwargs=True).remove)
            stack.callback(block.register_forward_hook(end).remove)
            for path, split in anatomy.projections(module, name).items() if relating else ():
                hook = _noted(layers, split)
                stack.callback(module.get_submodule(path).register_forward_hook(hook).remove)
        yield layers


def _noted(layers: list[Layer], split: Callable[[torch.Tensor], dict[str, torch.Tensor]]) -> Callable[..., None]:
    def hook(part: Any, args: Any, out: torch.Tensor) -> None:
        for kind, value in split(out).items():
            # DeBERTa projects its positions with the same matrices, later.
            layers[-1].relating.setdefault(kind, value)

    return hook
