"""Which weights to zero: True marks a weight that goes. Ties fall by position, so the count is exact."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import torch


def smallest(scores: Sequence[torch.Tensor], share: float) -> list[torch.Tensor]:
    """Mark the lowest scores over several tensors together.

    Args:
        scores: Any shapes; NaN counts as the highest.
        share: Of all elements, how many to mark, rounded to the nearest count.

    Returns:
        A mask for each, of its shape.
    """
    import torch

    flat = torch.cat([score.flatten() for score in scores])
    count = round(share * len(flat))
    mask = torch.zeros_like(flat, dtype=torch.bool)
    if count:
        # The count-th lowest score, then exactly as many of its equals as are wanted, first come first.
        threshold = flat.kthvalue(count).values
        mask = flat < threshold
        ties = (flat == threshold).nonzero().flatten()
        mask[ties[: count - int(mask.sum())]] = True
    parts = mask.split([score.numel() for score in scores])
    return [part.reshape(score.shape) for part, score in zip(parts, scores, strict=True)]


def n_of_m(scores_OI: torch.Tensor, n: int, m: int) -> torch.Tensor:
    """Keep the `n` highest scores of every `m` consecutive inputs and mark the rest: (O, I), I a multiple of m."""
    import torch

    groups_OGS = scores_OI.unflatten(-1, (-1, m))
    order_OGS = groups_OGS.sort(dim=-1, descending=True, stable=True).indices
    mask_OGS = torch.ones_like(groups_OGS, dtype=torch.bool)
    return mask_OGS.scatter_(-1, order_OGS[..., :n], False).flatten(-2)
