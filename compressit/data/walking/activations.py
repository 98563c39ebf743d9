"""What flows between blocks, batch by batch: in memory as long as it fits, in files beyond."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import torch


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

    def put(self, batch: int, tensor: torch.Tensor) -> None:
        """Keep a batch's tensor in place of the one before."""
        import torch

        # A GPU has better uses for its memory.
        tensor = tensor.detach().cpu()
        size = tensor.numel() * tensor.element_size()
        before = self.held.pop(batch, None)
        self.bytes -= before.numel() * before.element_size() if before is not None else 0
        if self.bytes + size <= self.limit:
            self.held[batch] = tensor
            self.written.pop(batch, None)
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

    def clear(self) -> None:
        """Forget everything, files too."""
        for batch in self.written:
            self._file(batch).unlink(missing_ok=True)
        self.held, self.written, self.bytes = {}, {}, 0

    def _file(self, batch: int) -> Path:
        return self.folder / f"{batch:06}.activations"
