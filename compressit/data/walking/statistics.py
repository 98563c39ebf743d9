"""What is measured of a layer's inputs, over all batches, in float32."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import TYPE_CHECKING, Protocol

from compressit import ranks

if TYPE_CHECKING:
    import torch

SPAN = 128
"""Inputs in a square of the Gram matrix: only squares on and above the diagonal are computed."""
CHUNK = 2048
"""Rows that are read as float32 at a time."""


class Statistic(Protocol):
    """Something measured of inputs.

    Attributes:
        count: Rows seen.
    """

    count: int

    def add(self, rows_NI: torch.Tensor) -> None:
        """Take more rows in."""

    def pool(self, processes: int) -> None:
        """Take in what all of so many processes have seen."""


class Norms:
    """Each input's sum of squares."""

    def __init__(self, inputs: int, device: str) -> None:
        import torch

        self.count = 0
        self.squares_I = torch.zeros(inputs, device=device)

    def add(self, rows_NI: torch.Tensor) -> None:
        """Take more rows in."""
        self.count += len(rows_NI)
        self.squares_I += rows_NI.float().square().sum(0)

    def pool(self, processes: int) -> None:
        """Take in what all of so many processes have seen."""
        self.count = _counted(self.count, self.squares_I, processes)
        ranks.added(self.squares_I, processes)


class Peaks:
    """Each input's largest absolute value."""

    def __init__(self, inputs: int, device: str) -> None:
        import torch

        self.count = 0
        self.largest_I = torch.zeros(inputs, device=device)

    def add(self, rows_NI: torch.Tensor) -> None:
        """Take more rows in."""
        import torch

        self.count += len(rows_NI)
        if len(rows_NI):
            self.largest_I = torch.maximum(self.largest_I, rows_NI.abs().amax(0).float())

    def pool(self, processes: int) -> None:
        """Take in what all of so many processes have seen."""
        self.count = _counted(self.count, self.largest_I, processes)
        ranks.largest(self.largest_I, processes)


class Gram:
    """The Hessian of a layer's squared output error: H = 2 / N * X'X."""

    def __init__(self, inputs: int, device: str) -> None:
        import torch

        self.count = 0
        self.sum_II = torch.zeros(inputs, inputs, device=device)

    def add(self, rows_NI: torch.Tensor) -> None:
        """Take more rows in."""
        self.count += len(rows_NI)
        with _exact(rows_NI):
            for part_NI in rows_NI.split(CHUNK):
                rows = part_NI.float()
                for top in range(0, rows.shape[1], SPAN):
                    left = rows[:, top : top + SPAN].T
                    self.sum_II[top : top + SPAN, top:].addmm_(left, rows[:, top:])

    def pool(self, processes: int) -> None:
        """Take in what all of so many processes have seen."""
        self.count = _counted(self.count, self.sum_II, processes)
        ranks.added(self.sum_II, processes)

    def hessian(self) -> torch.Tensor:
        """Give H: (I, I). What was summed is used up."""
        size = len(self.sum_II)
        for top in range(0, size, SPAN):
            self.sum_II[top + SPAN :, top : top + SPAN] = self.sum_II[top : top + SPAN, top + SPAN :].T
        return self.sum_II.mul_(2 / max(1, self.count))


class Moments:
    """A `Gram`, and the mean of each input."""

    def __init__(self, inputs: int, device: str) -> None:
        import torch

        self.count = 0
        self.gram = Gram(inputs, device)
        self.sum_I = torch.zeros(inputs, device=device)

    def add(self, rows_NI: torch.Tensor) -> None:
        """Take more rows in."""
        self.count += len(rows_NI)
        self.gram.add(rows_NI)
        self.sum_I += rows_NI.sum(0, dtype=self.sum_I.dtype)

    def pool(self, processes: int) -> None:
        """Take in what all of so many processes have seen."""
        self.gram.pool(processes)
        self.count = self.gram.count
        ranks.added(self.sum_I, processes)

    def centred(self) -> tuple[torch.Tensor, torch.Tensor]:
        """Give H of the inputs less their mean, (I, I), and the mean, (I,). What was summed is used up."""
        mean_I = self.sum_I / max(1, self.count)
        return self.gram.hessian().addr_(mean_I, mean_I, alpha=-2), mean_I


def _counted(rows: int, values: torch.Tensor, processes: int) -> int:
    import torch

    return int(ranks.added(torch.tensor([rows], device=values.device), processes))


@contextlib.contextmanager
def _exact(rows_NI: torch.Tensor) -> Iterator[None]:
    """Multiply float32 in arithmetic that loses nothing of the rows.

    The product of two bfloat16 numbers is exact in float32. So rows that come in bfloat16 may be multiplied by the
    processor's bfloat16 instructions, which sum in float32. No other rows may be, and TF32 never is used.
    """
    import torch

    backend = torch.backends.cuda.matmul if rows_NI.is_cuda else torch.backends.mkldnn.matmul
    exact = "bf16" if rows_NI.dtype == torch.bfloat16 and not rows_NI.is_cuda else "ieee"
    before = backend.fp32_precision
    backend.fp32_precision = exact
    try:
        yield
    finally:
        backend.fp32_precision = before
