"""Integer grids for weights: a scale and a zero point for each group of inputs of each output.

A weight w is stored as q = clamp(round(w / scale) + zero, -2^(bits-1), 2^(bits-1) - 1) and read as (q - zero) * scale.
Zero itself is always on the grid, so a pruned weight stays pruned.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import torch

SHRINKS = tuple(1 - step / 100 for step in range(80))
"""Ranges that the search of the clip tries, as shares of the full one (Frantar et al. 2023, gptq/quant.py)."""


def grouped(w_OI: torch.Tensor, group_size: int | None) -> torch.Tensor:
    """Lay a matrix out by groups: (O, I) -> (O, G, S); one group where `group_size` is None."""
    return w_OI.unflatten(-1, (-1, group_size or w_OI.shape[-1]))


def grid(
    w_OGS: torch.Tensor, bits: int, *, symmetric: bool, search: bool = False, dtype: torch.dtype | None = None
) -> tuple[torch.Tensor, torch.Tensor]:
    """Find the grid of each group.

    Args:
        w_OGS: Weights by group.
        bits: Of an integer.
        symmetric: Let zero be the integer 0.
        search: Try narrower ranges too and take the one of least squared error, in place of the full range.
        dtype: Type that scales are stored in; they are rounded to it before anything is measured.

    Returns:
        scale (O, G) and zero (O, G), the latter whole numbers.
    """
    best = _grid(w_OGS, bits, symmetric, 1.0, dtype)
    if not search:
        return best
    scale_OG, zero_OG = best
    least_OG = error(w_OGS, scale_OG, zero_OG, bits)
    for shrink in SHRINKS[1:]:
        tried_OG, moved_OG = _grid(w_OGS, bits, symmetric, shrink, dtype)
        found_OG = error(w_OGS, tried_OG, moved_OG, bits)
        better_OG = found_OG < least_OG
        least_OG = found_OG.where(better_OG, least_OG)
        scale_OG, zero_OG = tried_OG.where(better_OG, scale_OG), moved_OG.where(better_OG, zero_OG)
    return scale_OG, zero_OG


def rounded(w_OGS: torch.Tensor, scale_OG: torch.Tensor, zero_OG: torch.Tensor, bits: int) -> torch.Tensor:
    """Round weights to their grid and read them back: (O, G, S)."""
    scale, zero = scale_OG[..., None], zero_OG[..., None]
    whole = ((w_OGS / scale).round() + zero).clamp(-(2 ** (bits - 1)), 2 ** (bits - 1) - 1)
    return (whole - zero) * scale


def error(w_OGS: torch.Tensor, scale_OG: torch.Tensor, zero_OG: torch.Tensor, bits: int) -> torch.Tensor:
    """Sum the squared error of each group: (O, G)."""
    return (rounded(w_OGS, scale_OG, zero_OG, bits) - w_OGS).square().sum(-1)


def _grid(
    w_OGS: torch.Tensor, bits: int, symmetric: bool, shrink: float, dtype: torch.dtype | None
) -> tuple[torch.Tensor, torch.Tensor]:
    import torch

    low_OG, high_OG = w_OGS.amin(-1).clamp(max=0) * shrink, w_OGS.amax(-1).clamp(min=0) * shrink
    if symmetric:
        # Integers reach one further down than up; a group whose extreme is negative gets the finer step.
        scale_OG = torch.maximum(-low_OG / 2 ** (bits - 1), high_OG / (2 ** (bits - 1) - 1))
    else:
        scale_OG = (high_OG - low_OG) / (2**bits - 1)
    if dtype is not None:
        scale_OG = scale_OG.to(dtype).to(w_OGS.dtype)
    # A group of zeros, or one too small for the type, gets any scale: it reads back as zeros.
    scale_OG = scale_OG.where(scale_OG > 0, torch.ones_like(scale_OG))
    if symmetric:
        return scale_OG, torch.zeros_like(scale_OG)
    zero_OG = (-(2 ** (bits - 1)) - low_OG / scale_OG).round().clamp(-(2 ** (bits - 1)), 2 ** (bits - 1) - 1)
    return scale_OG, zero_OG
