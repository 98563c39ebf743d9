"""Eight bits for what a linear layer takes in and for its weights, and the rounding that training feels.

What is taken in, x, is held as q = clamp(round(x / scale) + zero, 0, 255), one scale for all; weights as integers from
-127 to 127, one scale for each output, zero being 0 (Jacob et al. 2018, arXiv:1712.05877). Gradients pass the rounding
as if it were not there, and stop where a number is clipped (Bengio et al. 2013, arXiv:1308.3432).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import torch

Range = tuple[float, float]
"""Least and greatest of what is taken in."""
STEPS, MOST = 255, 127


def scale(low: float, high: float) -> tuple[float, int]:
    """Give scale and zero point of a range; zero is always one of its numbers."""
    low, high = min(low, 0.0), max(high, 0.0)
    step = max((high - low) / STEPS, 1e-12)
    return step, min(STEPS, max(0, round(-low / step)))


def scales(weight_OI: torch.Tensor) -> torch.Tensor:
    """Give each output's scale: (O,)."""
    return weight_OI.detach().abs().flatten(1).amax(1).clamp(min=1e-12) / MOST


def rounded(x: torch.Tensor, low: float, high: float) -> torch.Tensor:
    """Round what is taken in to what eight bits hold of a range."""
    import torch

    return torch.fake_quantize_per_tensor_affine(x, *scale(low, high), 0, STEPS)


def rounded_rows(weight_OI: torch.Tensor) -> torch.Tensor:
    """Round weights to what eight bits hold of each output's."""
    import torch

    scale_O = scales(weight_OI)
    zero_O = torch.zeros_like(scale_O, dtype=torch.int32)
    return torch.fake_quantize_per_channel_affine(weight_OI, scale_O, zero_O, 0, -MOST, MOST)


def through(x: torch.Tensor, low: float, high: float) -> torch.Tensor:
    """Compute the same through real integers, as exporters want to see it."""
    import torch
    from torch.ao.quantization.fx import _decomposed  # registers the operators

    assert _decomposed is not None
    held = *scale(low, high), 0, STEPS, torch.uint8
    ops = torch.ops.quantized_decomposed
    found: torch.Tensor = ops.dequantize_per_tensor(ops.quantize_per_tensor(x, *held), *held)
    return found


def through_rows(weight_OI: torch.Tensor) -> torch.Tensor:
    """Compute the same of weights through real integers."""
    import torch
    from torch.ao.quantization.fx import _decomposed  # registers the operators

    assert _decomposed is not None
    scale_O = scales(weight_OI)
    held = scale_O, torch.zeros_like(scale_O, dtype=torch.int64), 0, -MOST, MOST, torch.int8
    ops = torch.ops.quantized_decomposed
    found: torch.Tensor = ops.dequantize_per_channel(ops.quantize_per_channel(weight_OI, *held), *held)
    return found
