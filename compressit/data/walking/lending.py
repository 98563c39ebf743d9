"""Lend a model what lies outside its blocks, module by module as they are called: embeddings, but not the head."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

from compressit.model import disk

if TYPE_CHECKING:
    import torch

    from compressit.model import Model


@contextlib.contextmanager
def lent(model: Model, dtype: torch.dtype, device: str) -> Iterator[None]:
    """Fill modules outside the blocks when they are first called, in the arithmetic of the forward pass.

    Afterwards each has what it had before.
    """
    outside = model.parts()[""]
    taken: set[str] = set()
    undo: list[Callable[[], None]] = []

    def fill(names: list[str]) -> Any:
        def hook(*unused: Any) -> None:
            new = [name for name in names if name not in taken]
            taken.update(new)
            tensors = model.read("", new).tensors
            cast = {name: t.to(device, dtype if t.is_floating_point() else None) for name, t in tensors.items()}
            undo.append(disk.fill(model.module, cast))

        return hook

    hooks = []
    for owner, part in model.module.named_modules():
        own = [name for name in outside if name.rpartition(".")[0] == owner]
        if own and owner:
            hooks.append(part.register_forward_pre_hook(fill(own)))
    try:
        yield
    finally:
        for hook in hooks:
            hook.remove()
        for each in reversed(undo):
            each()
