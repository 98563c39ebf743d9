"""SparseGPT: zero weights input by input, the others making up for them (Frantar & Alistarh 2023, arXiv:2301.00774)."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from compressit.algorithms import masks
from compressit.algorithms.gptq import BLOCK, STRIP, Grid, Rounded, Rounding, nearest
from compressit.algorithms.sweep import sweep

if TYPE_CHECKING:
    import torch


def sparsegpt(
    w_OI: torch.Tensor, upper_II: torch.Tensor, *, share: float = 0.0, kept: tuple[int, int] | None = None
) -> torch.Tensor:
    """Zero a share of the weights, or all but N of every M consecutive inputs; weights that are zero stay zero.

    A weight's price is w^2 / U_ii^2, the error that its loss leaves after the others have made up for it. A share is
    chosen block by block of inputs, over all rows together; N:M when the sweep reaches the M inputs.

    Args:
        w_OI: float32.
        upper_II: `hessian.factor` of H.
        share: Of the weights to zero, in each block; zeros that are there already count.
        kept: N and M, in place of a share.

    Returns:
        The matrix: (O, I).
    """
    rule = _Pruning(w_OI.T.contiguous(), upper_II, share, kept)
    sweep(rule.w_IO, upper_II, rule, block=rule.block_size, strip=rule.strip_size)
    return rule.w_IO.T.contiguous()


def jointly(
    w_OI: torch.Tensor,
    gram_II: torch.Tensor,
    upper_II: torch.Tensor,
    grid: Grid,
    *,
    share: float = 0.0,
    kept: tuple[int, int] | None = None,
) -> Rounded:
    """Zero weights as `sparsegpt` does and round the others as `gptq` does, in one sweep."""
    importance_I = gram_II.diagonal()
    rule = _Both(w_OI, upper_II, importance_I, grid, share, kept)
    sweep(rule.w_IO, upper_II, rule, block=rule.block_size, strip=rule.strip_size)
    return rule.rounding.result()


class _Pruning:
    """The sweep's rule for pruning."""

    def __init__(self, w_IO: torch.Tensor, upper_II: torch.Tensor, share: float, kept: tuple[int, int] | None) -> None:
        import torch

        self.w_IO = w_IO
        self.zero_IO = w_IO == 0
        self.diagonal_I = upper_II.diagonal()
        self.share, self.kept = share, kept
        self.gone_IO = torch.zeros_like(self.zero_IO)
        self.strip_size = max(1, STRIP // kept[1]) * kept[1] if kept else STRIP
        self.block_size = max(1, BLOCK // self.strip_size) * self.strip_size

    def block(self, start: int, rows_BO: torch.Tensor) -> None:
        if self.kept is None:
            price_BO = self._price(start, rows_BO)
            self.gone_IO[start : start + len(rows_BO)] = masks.smallest([price_BO], self.share)[0]

    def decide(self, index: int, row_O: torch.Tensor) -> torch.Tensor:
        return row_O.masked_fill(self.gone(index), 0)

    def gone(self, index: int) -> torch.Tensor:
        """Mark the weights of an input that go: (O,)."""
        if self.kept is not None and index % self.kept[1] == 0:
            rows_MO = self.w_IO[index : index + self.kept[1]]
            self.gone_IO[index : index + self.kept[1]] = masks.n_of_m(self._price(index, rows_MO).T, *self.kept).T
        return self.gone_IO[index] | self.zero_IO[index]

    def foreseen(self, start: int, rows_SO: torch.Tensor) -> torch.Tensor:
        """Guess which weights of some inputs will go: (S, O)."""
        price_SO = self._price(start, rows_SO)
        if self.kept is None:
            return masks.smallest([price_SO], self.share)[0]
        return masks.n_of_m(price_SO.T, *self.kept).T

    def _price(self, start: int, rows_BO: torch.Tensor) -> torch.Tensor:
        """What each weight's loss costs; one that is zero already costs nothing."""
        price_BO = (rows_BO / self.diagonal_I[start : start + len(rows_BO), None]).square_()
        return price_BO.masked_fill_(self.zero_IO[start : start + len(rows_BO)], -1)


class _Both:
    """The sweep's rule for both at once."""

    def __init__(
        self,
        w_OI: torch.Tensor,
        upper_II: torch.Tensor,
        importance_I: torch.Tensor,
        grid: Grid,
        share: float,
        kept: tuple[int, int] | None,
    ) -> None:
        self.rounding = Rounding(w_OI, importance_I, None, grid, nearest(w_OI, grid, importance_I))
        self.w_IO = self.rounding.w_IO
        self.pruning = _Pruning(self.w_IO, upper_II, share, kept)
        self.rounding.zero_IO = self.pruning.gone_IO
        # A group's grid is found at the start of a block, N:M inside a strip: blocks are groups, strips divide them.
        self.block_size = self.rounding.span
        self.strip_size = math.gcd(self.block_size, self.pruning.strip_size)

    def block(self, start: int, rows_BO: torch.Tensor) -> None:
        self.pruning.block(start, rows_BO)
        size = self.rounding.size
        if start % size == 0:
            # Weights that are about to go ask nothing of the grid.
            rows_SO = self.w_IO[start : start + size]
            self.rounding.fit(start // size, rows_SO.masked_fill(self.pruning.foreseen(start, rows_SO), 0))

    def decide(self, index: int, row_O: torch.Tensor) -> torch.Tensor:
        self.pruning.gone_IO[index] = self.pruning.gone(index)
        return self.rounding.decide(index, row_O)
