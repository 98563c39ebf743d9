"""Coordinate descent on a rounded matrix: look at every weight again, given what all the others have become.

GPTQ decides each input once, when the later ones are still to be rounded. QuantEase (Behdin et al. 2023,
arXiv:2309.01885) goes over the inputs again: with all other weights fixed, the error's least point along one of them is
known, and its grid's nearest point to that is the best it can be. So no change ever adds error.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from compressit.algorithms.gptq import BLOCK, Rounded

if TYPE_CHECKING:
    import torch


def descend(found: Rounded, w_OI: torch.Tensor, gram_II: torch.Tensor, bits: int, passes: int) -> Rounded:
    """Lower tr (V - W) H (V - W)' over the integers of V; grids stay, and weights that are zero in W stay zero.

    Args:
        found: V, where to begin.
        w_OI: W, float32.
        gram_II: H, damped: see `hessian.damped`.
        bits: Of the integers.
        passes: Over all inputs.

    Returns:
        V, with new integers.
    """
    import torch

    size = w_OI.shape[1] // found.scale_OG.shape[1]
    least, most = -(2 ** (bits - 1)), 2 ** (bits - 1) - 1
    scale_GO, point_GO = found.scale_OG.T.contiguous(), found.zero_OG.T.contiguous()
    whole_IO, w_IO = found.whole_OI.T.contiguous(), w_OI.T.contiguous()
    off_IO = (found.weight_OI - w_OI).T.contiguous()
    zero_IO = w_IO == 0
    curvature = gram_II.diagonal().tolist()
    for _ in range(passes):
        for start in range(0, len(w_IO), BLOCK):
            stop = min(start + BLOCK, len(w_IO))
            slope_BO = gram_II[start:stop] @ off_IO
            for index in range(start, stop):
                here, group = index - start, index // size
                aim_O = torch.sub(off_IO[index], slope_BO[here], alpha=1 / curvature[index]).add_(w_IO[index])
                whole_O = aim_O.div_(scale_GO[group]).add_(point_GO[group]).round_().clamp_(least, most)
                whole_O = torch.where(zero_IO[index], whole_IO[index], whole_O)
                change_O = (whole_O - whole_IO[index]).mul_(scale_GO[group])
                whole_IO[index] = whole_O
                off_IO[index] += change_O
                if index + 1 < stop:
                    slope_BO[here + 1 :].addr_(gram_II[index, index + 1 : stop], change_O)
    return Rounded(whole_IO.T.contiguous(), found.scale_OG, found.zero_OG)
