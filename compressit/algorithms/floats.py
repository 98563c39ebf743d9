"""Floats of 8 and 4 bits for weights, and the scales that they share.

A float of 4 bits (E2M1) is one of 0, 0.5, 1, 1.5, 2, 3, 4 and 6, or minus that; twice its value is a whole number, and
so it is held here. Two formats share scales between them (Open Compute Project, Microscaling Formats 1.0, 2023; NVIDIA
2024): MXFP4 one power of two for 32 weights, NVFP4 one float of 8 bits (E4M3) for 16 and one for the whole matrix.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import torch

HALVES = (0, 1, 2, 3, 4, 6, 8, 12)
"""Twice the sizes that a float of 4 bits may have, by its code."""
MOST = 6.0
MOST_8 = 448.0
"""The largest floats of 4 bits and of 8 (E4M3)."""
LEAST_8 = 2.0**-9
"""The least float of 8 bits above zero."""
SHARES = (1.5, *(1 - step / 20 for step in range(10)))
"""Scales that the search for NVFP4 tries, as shares of the one that takes the largest weight to 6: the first takes it
to 4, below which sizes lie closer (Cook et al. 2025, arXiv:2512.02010)."""


def to_fp8(w_OI: torch.Tensor, dtype: torch.dtype) -> tuple[torch.Tensor, torch.Tensor]:
    """Round to floats of 8 bits, with a scale for each output: float8_e4m3fn (O, I), and `dtype` (O, 1)."""
    import torch

    scale_O1 = (w_OI.abs().amax(-1, keepdim=True) / MOST_8).to(dtype)
    scale_O1 = scale_O1.where(scale_O1 > 0, torch.ones_like(scale_O1))
    return (w_OI / scale_O1.float()).clamp_(-MOST_8, MOST_8).to(torch.float8_e4m3fn), scale_O1


def to_fp8_blocks(w_OI: torch.Tensor, dtype: torch.dtype, size: int = 128) -> tuple[torch.Tensor, torch.Tensor]:
    """Round to floats of 8 bits, with a scale for each block: float8_e4m3fn (O, I), and `dtype` (R, G).

    Blocks are `size` outputs by `size` inputs; the last outputs, where it doesn't divide them, are blocks of fewer.
    """
    import torch

    over = -len(w_OI) % size
    blocks_RSGS = torch.nn.functional.pad(w_OI, (0, 0, 0, over)).unflatten(0, (-1, size)).unflatten(-1, (-1, size))
    scale_RG = (blocks_RSGS.abs().amax((1, 3)) / MOST_8).to(dtype)
    scale_RG = scale_RG.where(scale_RG > 0, torch.ones_like(scale_RG))
    scale_OI = of_rows(scale_RG.float(), len(w_OI), size).repeat_interleave(size, -1)
    return (w_OI / scale_OI).clamp_(-MOST_8, MOST_8).to(torch.float8_e4m3fn), scale_RG


def of_rows(scale_RG: torch.Tensor, outputs: int, rows: int | None) -> torch.Tensor:
    """Give each output the scales that it shares with others: (R, G) -> (O, G); as it is where `rows` is None."""
    return scale_RG if rows is None else scale_RG.repeat_interleave(rows, 0)[:outputs]


def to_mxfp4(w_OI: torch.Tensor, dtype: torch.dtype, size: int = 32) -> tuple[torch.Tensor, torch.Tensor]:
    """Round to floats of 4 bits, with a power of two for each group that `dtype` holds: int8 (O, I), float32 (O, G).

    Of the powers that leave the largest weight near 6 the one of least squared error is taken.
    """
    import torch

    groups_OGS = w_OI.unflatten(-1, (-1, size))
    most_OG = groups_OGS.abs().amax(-1)
    # Such that the largest weight comes to lie between 4 and 8.
    power_OG = torch.frexp(most_OG.where(most_OG > 0, torch.ones_like(most_OG)))[1] - 3
    least = math.frexp(torch.finfo(dtype).tiny)[1] - 1
    tried = [torch.ldexp(torch.ones_like(most_OG), (power_OG + more).clamp(least, 125)) for more in (0, 1, -1)]
    return _best(w_OI, tried, None)


def to_nvfp4(w_OI: torch.Tensor, size: int = 16) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Round to floats of 4 bits: int8 (O, I), the groups' scales (O, G) and what these are divided by (1,), float32.

    The groups' scales are floats of 8 bits; of some the one of least squared error is taken.
    """
    import torch

    most_OG = w_OI.unflatten(-1, (-1, size)).abs().amax(-1)
    largest = most_OG.max().reshape(1)
    over = torch.where(largest > 0, MOST_8 * MOST / largest, torch.ones_like(largest)).nan_to_num(posinf=1.0)
    exact_OG = most_OG * over / MOST
    tried = [
        (exact_OG * share).clamp(LEAST_8, MOST_8).to(torch.float8_e4m3fn).float().clamp(min=LEAST_8) for share in SHARES
    ]
    whole_OI, scale_OG = _best(w_OI, tried, over)
    return whole_OI, scale_OG, over


def read_back(whole_OI: torch.Tensor, scale_OG: torch.Tensor, over: torch.Tensor | None) -> torch.Tensor:
    """Read floats of 4 bits as compressed-tensors does, which gives bfloat16: (O, I)."""
    import torch

    groups_OGS = whole_OI.unflatten(-1, (scale_OG.shape[-1], -1))
    # Scales are exact in bfloat16: powers of two, or floats of 8 bits.
    scale_OG = scale_OG.to(torch.bfloat16) if over is None else scale_OG.to(torch.bfloat16) / over
    return (groups_OGS.to(scale_OG.dtype) / 2 * scale_OG[..., None]).to(torch.bfloat16).flatten(-2)


def nearest_halves(x: torch.Tensor) -> torch.Tensor:
    """Round to floats of 4 bits, beyond the largest to it: twice their value, as int8. Ties go to the smaller one."""
    import torch

    sizes = torch.tensor(HALVES, dtype=torch.float32, device=x.device)
    codes = torch.bucketize(x.abs() * 2, (sizes[1:] + sizes[:-1]) / 2)
    return (sizes[codes] * x.sign()).to(torch.int8)


def packed(whole_OI: torch.Tensor) -> torch.Tensor:
    """Pack floats of 4 bits, two into a byte, the first one into its lower half: uint8 (O, I / 2)."""
    import torch

    codes = torch.bucketize(whole_OI.abs().float(), torch.tensor(HALVES, dtype=torch.float32, device=whole_OI.device))
    codes = (codes + 8 * (whole_OI < 0)).to(torch.uint8)
    return codes[..., ::2] | (codes[..., 1::2] << 4)


def unpacked(bytes_OI: torch.Tensor) -> torch.Tensor:
    """Read what `packed` wrote: int8 (O, I)."""
    import torch

    codes = torch.stack([bytes_OI & 15, bytes_OI >> 4], -1).flatten(-2)
    sizes = torch.tensor(HALVES, dtype=torch.int8, device=bytes_OI.device)[(codes & 7).long()]
    return torch.where(codes >= 8, -sizes, sizes)


def exponents(scale_OG: torch.Tensor) -> torch.Tensor:
    """Store powers of two by their exponents, 127 more than they are: uint8."""
    import torch

    return (torch.frexp(scale_OG.float())[1] + 126).to(torch.uint8)


def powers(stored_OG: torch.Tensor) -> torch.Tensor:
    """Read what `exponents` wrote: float32."""
    import torch

    return torch.ldexp(torch.ones(stored_OG.shape), stored_OG.int() - 127)


def _best(
    w_OI: torch.Tensor, tried: list[torch.Tensor], over: torch.Tensor | None
) -> tuple[torch.Tensor, torch.Tensor]:
    import torch

    groups_OGS = w_OI.unflatten(-1, (tried[0].shape[-1], -1))

    def error(rounded_OGS: torch.Tensor, one_OG: torch.Tensor) -> torch.Tensor:
        read_OI = read_back(rounded_OGS.flatten(-2), one_OG, over).to(w_OI.dtype)
        return (read_OI - w_OI).square_().unflatten(-1, groups_OGS.shape[-2:]).sum(-1)

    def rounded(one_OG: torch.Tensor) -> torch.Tensor:
        divisor_OG = one_OG if over is None else one_OG / over
        return nearest_halves(groups_OGS / divisor_OG[..., None])

    scale_OG, whole_OGS = tried[0], rounded(tried[0])
    least_OG = error(whole_OGS, scale_OG)
    for one_OG in tried[1:]:
        other_OGS = rounded(one_OG)
        error_OG = error(other_OGS, one_OG)
        less_OG = error_OG < least_OG
        whole_OGS = torch.where(less_OG[..., None], other_OGS, whole_OGS)
        scale_OG, least_OG = torch.where(less_OG, one_OG, scale_OG), torch.where(less_OG, error_OG, least_OG)
    return whole_OGS.flatten(-2), scale_OG
