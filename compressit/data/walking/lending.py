"""Lend a model what lies outside its blocks, but for its output head: what it takes to run up to them."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import TYPE_CHECKING

from compressit.model import disk

if TYPE_CHECKING:
    import torch

    from compressit.model import Model


@contextlib.contextmanager
def lent(model: Model, dtype: torch.dtype, device: str) -> Iterator[None]:
    """Fill modules outside the blocks, in the arithmetic of the forward pass; then each gets back what it had."""
    head = model.module.get_output_embeddings()
    left = next((f"{name}." for name, part in model.module.named_modules() if part is head), None)
    names = [name for name in model.parts()[""] if left is None or not name.startswith(left)]
    tensors = model.read("", names).tensors
    undo = disk.fill(
        model.module, {n: t.to(device, dtype if t.is_floating_point() else None) for n, t in tensors.items()}
    )
    try:
        yield
    finally:
        undo()
