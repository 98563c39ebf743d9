"""Scales for channels: inputs are divided by them and weights multiplied, and what is rounded gets easier to round.

C is a channel, I an input, O an output. With inputs of [8, 1] at the most and weights of [1, 1], s = [8, 1] ** 0.5
gives inputs of [2.8, 1] and weights of [2.8, 1]: neither needs a grid that is coarse for the other channel.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import torch

LEAST = 1e-5
"""What sizes are taken to be at least: a channel without inputs asks for no scale of zero."""


def smoothing(seen_C: torch.Tensor, weight_C: torch.Tensor, alpha: float) -> torch.Tensor:
    """Divide the difficulty between inputs and weights: s = max|x|^alpha / max|w|^(1 - alpha), (C,).

    Xiao et al. 2023, arXiv:2211.10438. A channel that is zero on one side is left alone.

    Args:
        seen_C: Largest absolute input.
        weight_C: Largest absolute weight that it is multiplied with.
        alpha: Share of the difficulty that the weights take over.
    """
    scale_C = seen_C.clamp(min=LEAST).pow(alpha) / weight_C.clamp(min=LEAST).pow(1 - alpha)
    return scale_C.where((seen_C > 0) & (weight_C > 0), scale_C.new_ones(())).clamp(min=LEAST, max=1 / LEAST)


def candidates(seen_C: torch.Tensor, weight_C: torch.Tensor, steps: int) -> list[torch.Tensor]:
    """Give the scales that a search tries, each (C,), the first of them 1 throughout.

    Lin et al. 2024, arXiv:2306.00978: s = x^r for r from 0 to 1, over the root of its largest times its least; and, as
    llm-compressor does, s = x^r / w^(1 - r).

    Args:
        seen_C: Size of the inputs.
        weight_C: Size of the weights.
        steps: Into which the way from 0 to 1 is divided.
    """
    found = [seen_C.new_ones(len(seen_C))]
    for step in range(steps + 1):
        ratio = step / steps
        seen = seen_C.clamp(min=LEAST).pow(ratio)
        alone = [seen] if step else []
        for scale_C in (*alone, seen / weight_C.clamp(min=LEAST).pow(1 - ratio)):
            scale_C = scale_C.where((seen_C > 0) & (weight_C > 0), scale_C.new_ones(()))
            scale_C = scale_C / (scale_C.max() * scale_C.min()).sqrt()
            found.append(scale_C.clamp(min=LEAST, max=1 / LEAST))
    return found


def searched(tried: Sequence[torch.Tensor], loss: Callable[[torch.Tensor], float]) -> tuple[torch.Tensor, float, float]:
    """Find the scale of least loss: itself, its loss, and that of the first, which wins where none is better."""
    losses = [loss(scale_C) for scale_C in tried]
    best = min(range(len(losses)), key=losses.__getitem__)
    return tried[best], losses[best], losses[0]


def output_error(
    weight_OI: torch.Tensor,
    gram_II: torch.Tensor,
    scale_I: torch.Tensor,
    rounded: Callable[[torch.Tensor, torch.Tensor], torch.Tensor],
) -> float:
    """Give the squared error of a layer's outputs when its weights are scaled and rounded: |(Q(Ws) / s - W)X|^2.

    Args:
        weight_OI: W.
        gram_II: XX', or a multiple of it.
        scale_I: s.
        rounded: Q, given Ws and the mean squares of X / s, or a multiple of them.
    """
    off_OI = rounded(weight_OI * scale_I, gram_II.diagonal() / scale_I.square()) / scale_I - weight_OI
    return float((off_OI @ gram_II).mul_(off_OI).sum())
