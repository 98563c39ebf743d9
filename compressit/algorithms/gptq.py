"""GPTQ: round a matrix input by input, later inputs making up for earlier ones.

Frantar et al. 2023, arXiv:2210.17323. With two inputs that are nearly the same, H = [[1, 0.9], [0.9, 1]], and a grid of
whole numbers, w = [0.4, 0.4]: rounding gives [0, 0], an output that is 0.8 short wherever both inputs are 1. GPTQ
rounds the first to 0 and hands 0.9 * 0.4 of it to the second, which is 0.76 then and becomes 1: [0, 1].
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from compressit.algorithms import hessian, rounding
from compressit.algorithms.sweep import sweep

if TYPE_CHECKING:
    import torch

BLOCK, STRIP = 128, 16
Order = Literal["static", "none"]


@dataclass(frozen=True)
class Grid:
    """What a matrix is rounded to.

    Attributes:
        group_size: Inputs that share a scale; None where all do.
        search: Look for the range of least error, weighed by the inputs' mean squares.
        dtype: Type that scales are stored in.
    """

    bits: int
    group_size: int | None
    symmetric: bool
    search: bool
    dtype: torch.dtype

    def fit(
        self, w_OGS: torch.Tensor, importance_GS: torch.Tensor | None, gram_GSS: torch.Tensor | None = None
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Find scale and zero: (O, G), (O, G)."""
        return rounding.grid(
            w_OGS,
            self.bits,
            symmetric=self.symmetric,
            search=self.search,
            dtype=self.dtype,
            importance_GS=importance_GS if self.search else None,
            gram_GSS=gram_GSS if self.search else None,
        )


@dataclass(frozen=True)
class Rounded:
    """A matrix on its grid: integers (O, I), scale (O, G), zero (O, G); all float."""

    whole_OI: torch.Tensor
    scale_OG: torch.Tensor
    zero_OG: torch.Tensor

    @property
    def weight_OI(self) -> torch.Tensor:
        """Read it back."""
        groups_OGS = self.whole_OI.unflatten(-1, (self.scale_OG.shape[-1], -1))
        return ((groups_OGS - self.zero_OG[..., None]) * self.scale_OG[..., None]).flatten(-2)

    def rows(self, start: int, stop: int) -> Rounded:
        """Keep some rows."""
        return Rounded(self.whole_OI[start:stop], self.scale_OG[start:stop], self.zero_OG[start:stop])


def nearest(w_OI: torch.Tensor, grid: Grid, importance_I: torch.Tensor | None = None) -> Rounded:
    """Round to nearest: no input makes up for another."""
    groups_OGS = rounding.grouped(w_OI, grid.group_size)
    importance_GS = None if importance_I is None else rounding.grouped(importance_I[None], grid.group_size)[0]
    scale_OG, zero_OG = grid.fit(groups_OGS, importance_GS)
    return Rounded(rounding.whole(groups_OGS, scale_OG, zero_OG, grid.bits).flatten(-2), scale_OG, zero_OG)


def nearest_output(w_OI: torch.Tensor, grid: Grid, gram_II: torch.Tensor) -> Rounded:
    """Round to nearest, on ranges that leave least error in what each group of inputs gives (Lin et al. 2024)."""
    import torch

    groups_OGS = rounding.grouped(w_OI, grid.group_size)
    size = groups_OGS.shape[-1]
    gram_GSS = torch.stack([gram_II[at : at + size, at : at + size] for at in range(0, len(gram_II), size)])
    scale_OG, zero_OG = grid.fit(groups_OGS, None, gram_GSS)
    return Rounded(rounding.whole(groups_OGS, scale_OG, zero_OG, grid.bits).flatten(-2), scale_OG, zero_OG)


def gptq(
    w_OI: torch.Tensor, gram_II: torch.Tensor, upper_II: torch.Tensor, order_I: torch.Tensor | None, grid: Grid
) -> Rounded:
    """Round a matrix; weights that are zero stay zero.

    Args:
        w_OI: float32.
        gram_II: H of its inputs, in their own order.
        upper_II: `hessian.factor` of H, its inputs in the order of `order_I`.
        order_I: The order in which inputs are rounded; grids are then found beforehand, on the weights as they were.
            None: as they lie, and each group's grid is found when the sweep reaches it, on weights that have made up
            for the groups before.
        grid: What it is rounded to.

    Returns:
        Row by row GPTQ's result, or round-to-nearest where that has less error on H.
    """
    plain = nearest(w_OI, grid, gram_II.diagonal())
    rule = Rounding(w_OI, gram_II.diagonal(), order_I, grid, plain)
    sweep(rule.w_IO, upper_II, rule, block=rule.span, strip=min(STRIP, rule.span))
    return better(rule.result(), plain, w_OI, gram_II)


def better(one: Rounded, other: Rounded, w_OI: torch.Tensor, gram_II: torch.Tensor) -> Rounded:
    """Take of two results, row by row, the one with less error on H."""
    import torch

    less_O = hessian.less(one.weight_OI - w_OI, other.weight_OI - w_OI, gram_II)
    pairs = (
        (one.whole_OI, other.whole_OI), (one.scale_OG, other.scale_OG), (one.zero_OG, other.zero_OG)
    )  # fmt: skip
    return Rounded(*(torch.where(less_O[:, None], first, second) for first, second in pairs))


class Rounding:
    """The sweep's rule for rounding."""

    def __init__(
        self,
        w_OI: torch.Tensor,
        importance_I: torch.Tensor,
        order_I: torch.Tensor | None,
        grid: Grid,
        plain: Rounded,
    ) -> None:
        import torch

        self.grid, self.order_I = grid, order_I
        self.size = grid.group_size or w_OI.shape[1]
        # A group's grid is found when all before it is made up for: at the start of a block.
        self.span = min(self.size, BLOCK) if order_I is None else BLOCK
        ordered_OI = w_OI if order_I is None else w_OI[:, order_I]
        self.w_IO = ordered_OI.T.contiguous()
        self.zero_IO = self.w_IO == 0 if bool((w_OI == 0).any()) else None
        self.importance_GS = rounding.grouped(importance_I[None], grid.group_size)[0]
        places = range(len(self.w_IO)) if order_I is None else order_I.tolist()
        self.group = [place // self.size for place in places]
        self.scale_GO, self.point_GO = plain.scale_OG.T.contiguous(), plain.zero_OG.T.contiguous()
        self.whole_IO = torch.empty_like(self.w_IO)
        self.least, self.most = -(2 ** (grid.bits - 1)), 2 ** (grid.bits - 1) - 1

    def block(self, start: int, rows_BO: torch.Tensor) -> None:
        """Find the grid of a group that begins here."""
        if self.order_I is None and start % self.size == 0:
            self.fit(start // self.size, self.w_IO[start : start + self.size])

    def fit(self, group: int, rows_SO: torch.Tensor) -> None:
        """Find a group's grid on its weights as they are now."""
        scale_OG, point_OG = self.grid.fit(rows_SO.T[:, None].contiguous(), self.importance_GS[group : group + 1])
        self.scale_GO[group], self.point_GO[group] = scale_OG[:, 0], point_OG[:, 0]

    def decide(self, index: int, row_O: torch.Tensor) -> torch.Tensor:
        """Round the weights of one input."""
        import torch

        scale_O, point_O = self.scale_GO[self.group[index]], self.point_GO[self.group[index]]
        whole_O = torch.div(row_O, scale_O, out=self.whole_IO[index]).round_()
        if not self.grid.symmetric:
            whole_O.add_(point_O)
        whole_O.clamp_(self.least, self.most)
        if self.zero_IO is not None:
            torch.where(self.zero_IO[index], point_O, whole_O, out=whole_O)
        return (whole_O if self.grid.symmetric else whole_O - point_O) * scale_O

    def result(self) -> Rounded:
        """Give everything in the inputs' own order."""
        import torch

        whole_OI = self.whole_IO.T
        if self.order_I is not None:
            whole_OI = whole_OI[:, torch.argsort(self.order_I)]
        return Rounded(whole_OI.contiguous(), self.scale_GO.T.contiguous(), self.point_GO.T.contiguous())
