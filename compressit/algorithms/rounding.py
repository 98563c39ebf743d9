"""Integer grids for weights: a scale and a zero point for each group of inputs of each output.

A weight w is stored as q = clamp(round(w / scale) + zero, -2^(bits-1), 2^(bits-1) - 1) and read as (q - zero) * scale.
Zero itself is always on the grid, so a pruned weight stays pruned.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import torch

SHRINKS = tuple(1 - step / 25 for step in range(16))
"""Ranges that the search of the clip tries, as shares of the full one."""
LEAST = 1e-6
"""Scale that none which is learned falls below."""
CHUNK = 1 << 17
"""Weights that the search looks at together: what it makes of them stays in the processor's cache."""
ROWS = 256
"""Outputs that it looks at together where errors are weighed by matrices, which are to be read seldom."""


def grouped(w_OI: torch.Tensor, group_size: int | None) -> torch.Tensor:
    """Lay a matrix out by groups: (O, I) -> (O, G, S); one group where `group_size` is None."""
    return w_OI.unflatten(-1, (-1, group_size or w_OI.shape[-1]))


def grid(
    w_OGS: torch.Tensor,
    bits: int,
    *,
    symmetric: bool,
    search: bool = False,
    dtype: torch.dtype | None = None,
    importance_GS: torch.Tensor | None = None,
    gram_GSS: torch.Tensor | None = None,
) -> tuple[torch.Tensor, torch.Tensor]:
    """Find the grid of each group.

    Args:
        w_OGS: Weights by group.
        bits: Of an integer.
        symmetric: Let zero be the integer 0.
        search: Try narrower ranges too and take the one of least squared error, in place of the full range (Frantar et
            al. 2023, gptq/quant.py, which raises errors to 2.4 and knows no importance).
        dtype: Type that scales are stored in; they are rounded to it before anything is measured.
        importance_GS: Weighs the squared errors of the search: each input's mean square.
        gram_GSS: Makes them errors of what each group gives, in place of that: the products of its inputs.

    Returns:
        scale (O, G) and zero (O, G), the latter whole numbers.
    """
    import torch

    if not search:
        return _grid(w_OGS, bits, symmetric, 1.0, dtype)
    rows = max(1, CHUNK // (w_OGS.shape[1] * w_OGS.shape[2]), 0 if gram_GSS is None else ROWS)
    found = [_searched(part, bits, symmetric, dtype, importance_GS, gram_GSS) for part in w_OGS.split(rows)]
    return torch.cat([scale for scale, _ in found]), torch.cat([zero for _, zero in found])


def whole(w_OGS: torch.Tensor, scale_OG: torch.Tensor, zero_OG: torch.Tensor, bits: int) -> torch.Tensor:
    """Round weights to the integers of their grid, kept as floats: (O, G, S)."""
    rounded = (w_OGS / scale_OG[..., None]).round_().add_(zero_OG[..., None])
    return rounded.clamp_(-(2 ** (bits - 1)), 2 ** (bits - 1) - 1)


def rounded(w_OGS: torch.Tensor, scale_OG: torch.Tensor, zero_OG: torch.Tensor, bits: int) -> torch.Tensor:
    """Round weights to their grid and read them back: (O, G, S)."""
    return whole(w_OGS, scale_OG, zero_OG, bits).sub_(zero_OG[..., None]).mul_(scale_OG[..., None])


def learning(
    w_OGS: torch.Tensor, scale_OG: torch.Tensor, zero_OG: torch.Tensor, bits: int, dtype: torch.dtype
) -> torch.Tensor:
    """Round weights to their grid and read them back, for a training that learns weights and scales: (O, G, S).

    Gradients pass the rounding as if it were not there. Weights beyond the grid have none; a scale has round(w / s) -
    w / s of each weight on the grid, and the grid's end of each beyond it (Esser et al. 2020, arXiv:1902.08153).

    Args:
        w_OGS: Weights by group.
        scale_OG: Not rounded to the type yet.
        zero_OG: Whole numbers.
        bits: Of an integer.
        dtype: Type that scales and what is read back are stored in.
    """
    import torch

    scale_OG1 = held(scale_OG, dtype)[..., None]
    lowest, highest = -(2 ** (bits - 1)) - zero_OG[..., None], 2 ** (bits - 1) - 1 - zero_OG[..., None]
    near_OGS = torch.minimum(torch.maximum(w_OGS / scale_OG1, lowest), highest)
    read_OGS = _through(near_OGS, near_OGS.round()) * scale_OG1
    return _through(read_OGS, read_OGS.to(dtype))


def held(scale_OG: torch.Tensor, dtype: torch.dtype) -> torch.Tensor:
    """Give what is stored of learned scales, which stay above zero: (O, G)."""
    scale_OG = scale_OG.clamp(min=LEAST)
    return _through(scale_OG, scale_OG.to(dtype))


def _through(value: torch.Tensor, rounded: torch.Tensor) -> torch.Tensor:
    """Give what a value is rounded to, with the value's gradient."""
    return value + (rounded - value).detach()


def error(w_OGS: torch.Tensor, scale_OG: torch.Tensor, zero_OG: torch.Tensor, bits: int) -> torch.Tensor:
    """Sum the squared error of each group: (O, G)."""
    return rounded(w_OGS, scale_OG, zero_OG, bits).sub_(w_OGS).square_().sum(-1)


def _searched(
    w_OGS: torch.Tensor,
    bits: int,
    symmetric: bool,
    dtype: torch.dtype | None,
    importance_GS: torch.Tensor | None,
    gram_GSS: torch.Tensor | None,
) -> tuple[torch.Tensor, torch.Tensor]:
    scale_OG, zero_OG = _grid(w_OGS, bits, symmetric, 1.0, dtype)
    least_OG = None
    for shrink in SHRINKS:
        tried_OG, moved_OG = _grid(w_OGS, bits, symmetric, shrink, dtype)
        off_OGS = rounded(w_OGS, tried_OG, moved_OG, bits).sub_(w_OGS)
        if gram_GSS is not None:
            found_OG = (off_OGS.transpose(0, 1) @ gram_GSS).transpose(0, 1).mul_(off_OGS).sum(-1)
        else:
            off_OGS = off_OGS.square_()
            found_OG = (off_OGS if importance_GS is None else off_OGS.mul_(importance_GS)).sum(-1)
        if least_OG is None:
            least_OG = found_OG
            continue
        better_OG = found_OG < least_OG
        least_OG = found_OG.where(better_OG, least_OG)
        scale_OG, zero_OG = tried_OG.where(better_OG, scale_OG), moved_OG.where(better_OG, zero_OG)
    return scale_OG, zero_OG


def _grid(
    w_OGS: torch.Tensor, bits: int, symmetric: bool, shrink: float, dtype: torch.dtype | None
) -> tuple[torch.Tensor, torch.Tensor]:
    import torch

    low_OG, high_OG = w_OGS.amin(-1).clamp(max=0) * shrink, w_OGS.amax(-1).clamp(min=0) * shrink
    if symmetric:
        # Integers reach one further down than up. The extreme lies half a step beyond the short end: no weight moves
        # by more than half a step, and no level is left unused, which at 2 bits is one of four.
        scale_OG = torch.maximum(-low_OG, high_OG) / (2 ** (bits - 1) - 0.5)
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
