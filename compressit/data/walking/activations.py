"""What flows between blocks, batch by batch: in memory as long as it fits, in files beyond."""

from __future__ import annotations

import contextlib
import mmap
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import torch

APART = 1 << 20
"""Bytes from which a tensor gets memory of its own."""


class Activations:
    """One tensor a batch."""

    def __init__(self, folder: Path, limit: int) -> None:
        """Start empty.

        Args:
            folder: Where what doesn't fit is written.
            limit: Bytes to hold in memory.
        """
        self.folder, self.limit = folder, limit
        self.held: dict[int, torch.Tensor] = {}
        self.written: dict[int, tuple[torch.Size, torch.dtype]] = {}
        self.bytes = 0

    def __len__(self) -> int:
        return len(self.held) + len(self.written)

    def __contains__(self, batch: int) -> bool:
        return batch in self.held or batch in self.written

    def put(self, batch: int, tensor: torch.Tensor) -> None:
        """Keep a batch's tensor in place of the one before."""
        import torch

        # A GPU has better uses for its memory.
        tensor = tensor.detach().cpu()
        self.forget(batch)
        size = tensor.numel() * tensor.element_size()
        if self.bytes + size <= self.limit:
            self.held[batch] = apart(tensor)
            self.bytes += size
            return
        self.folder.mkdir(parents=True, exist_ok=True)
        tensor.contiguous().view(torch.uint8).numpy().tofile(self._file(batch))
        self.written[batch] = tensor.shape, tensor.dtype

    def get(self, batch: int) -> torch.Tensor:
        """Give a batch's tensor."""
        import numpy as np
        import torch

        if batch in self.held:
            return self.held[batch]
        shape, dtype = self.written[batch]
        return torch.from_numpy(np.fromfile(self._file(batch), dtype=np.uint8)).view(dtype).reshape(shape)

    def forget(self, batch: int) -> None:
        """Let go of a batch's tensor."""
        before = self.held.pop(batch, None)
        self.bytes -= before.numel() * before.element_size() if before is not None else 0
        if self.written.pop(batch, None) is not None:
            self._file(batch).unlink()

    def clear(self) -> None:
        """Forget everything, files too."""
        for batch in self.written:
            self._file(batch).unlink(missing_ok=True)
        self.held, self.written, self.bytes = {}, {}, 0

    def _file(self, batch: int) -> Path:
        return self.folder / f"{batch:06}.activations"


def apart(tensor: torch.Tensor) -> torch.Tensor:
    """Copy a tensor that will be kept into memory of its own.

    Among what a forward pass takes and lets go again it would leave holes that nothing fits into.
    """
    import torch

    size = tensor.numel() * tensor.element_size()
    if tensor.device.type != "cpu" or size < APART or not tensor.is_contiguous():
        return tensor
    return torch.frombuffer(_pages(size), dtype=tensor.dtype).view(tensor.shape).copy_(tensor)


def _pages(size: int) -> mmap.mmap:
    """Take memory from the system, in large pages where it has them: small ones cost more to come by than to fill."""
    if not hasattr(mmap, "MAP_ANONYMOUS"):
        return mmap.mmap(-1, size)
    pages = mmap.mmap(-1, size, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
    if hasattr(mmap, "MADV_HUGEPAGE"):
        with contextlib.suppress(OSError):
            pages.madvise(mmap.MADV_HUGEPAGE)
    return pages
