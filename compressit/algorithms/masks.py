"""Which weights to zero: True marks a weight that goes. Ties fall by position, so the count is exact."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

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


def smallest_of_rows(scores_OI: torch.Tensor, share: float) -> torch.Tensor:
    """Mark the lowest scores of each row, the same count in each: (O, I)."""
    import torch

    order_OI = scores_OI.sort(dim=-1, stable=True).indices[:, : round(share * scores_OI.shape[-1])]
    return torch.zeros_like(scores_OI, dtype=torch.bool).scatter_(-1, order_OI, True)


def n_of_m(scores_OI: torch.Tensor, n: int, m: int) -> torch.Tensor:
    """Keep the `n` highest scores of every `m` consecutive inputs and mark the rest: (O, I), I a multiple of m."""
    import torch

    groups_OGS = scores_OI.unflatten(-1, (-1, m))
    order_OGS = groups_OGS.sort(dim=-1, descending=True, stable=True).indices
    mask_OGS = torch.ones_like(groups_OGS, dtype=torch.bool)
    return mask_OGS.scatter_(-1, order_OGS[..., :n], False).flatten(-2)


def towards_n_of_m(scores_OI: torch.Tensor, n: int, m: int, share: float) -> torch.Tensor:
    """Mark the lowest scores among the weights that `n_of_m` would mark, until a share of all is: (O, I)."""
    import torch

    going_OI = n_of_m(scores_OI, n, m)
    first_OI = smallest([scores_OI.masked_fill(~going_OI, torch.inf)], min(share, 1 - n / m))[0]
    return first_OI & going_OI


def outlasts(zero_OI: torch.Tensor, left_OI: torch.Tensor) -> bool:
    """Tell whether zeros are all there in what is left of a matrix when rows or columns, or both, were taken out.

    Those that stay keep their order, so the first that fits can be taken for each: if any choice fits, this one does.
    Where both were taken out, which ones is not looked for, and each row is held to the weights it had.

    Args:
        zero_OI: Which weights were zero, (O, I), bool.
        left_OI: Which are now, (o, i), with no more rows and no more columns.
    """
    if zero_OI.shape == left_OI.shape:
        return not bool((zero_OI & ~left_OI).any())
    if any(now > then for now, then in zip(left_OI.shape, zero_OI.shape, strict=True)):
        return False
    if zero_OI.shape[1] == left_OI.shape[1]:
        return _in_order(zero_OI, left_OI, lambda then_I, now_I: not bool((then_I & ~now_I).any()))
    if zero_OI.shape[0] == left_OI.shape[0]:
        return outlasts(zero_OI.T.contiguous(), left_OI.T.contiguous())
    counts = (~zero_OI).sum(1).tolist(), (~left_OI).sum(1).tolist()
    return _in_order(*counts, lambda then, now: now <= then)


def _in_order(before: Sequence[Any], after: Sequence[Any], fits: Callable[[Any, Any], bool]) -> bool:
    """Tell whether what came after is some of what was before, in its order."""
    rest = iter(before)
    return all(any(fits(then, now) for then in rest) for now in after)


def cubic(first: float, last: float, progress: float) -> float:
    """Give the share that is zero at a progress from 0 to 1: much goes early, little late (arXiv:1710.01878)."""
    return last + (first - last) * (1 - progress) ** 3


class Ranking:
    """Mark the lowest scores over many tensors that are never in memory together: three passes, then `mark`.

    Scores that are not negative are ordered as the bits of their float32 are. So their counts by the upper half of the
    bits, and then by the lower half among those that decide, find the very score at which to stop; a last pass deals
    out its equals, first come, first marked.
    """

    PASSES = 3

    def __init__(self, share: float) -> None:
        import torch

        self.share = share
        self.counts = torch.zeros(1 << 16, dtype=torch.int64)
        self.upper: int | None = None
        self.threshold: float | None = None
        self.below = self.total = 0
        self.ties: dict[str, int] = {}

    def see(self, name: str, scores: torch.Tensor) -> None:
        """Take a tensor's scores in, once a pass; float32, none below zero."""
        import torch

        if self.threshold is not None:
            left = self.total - self.below - sum(self.ties.values())
            self.ties[name] = min(left, int((scores == self.threshold).sum()))
            return
        bits = scores.flatten().view(torch.int32)
        half = bits >> 16 if self.upper is None else bits[(bits >> 16) == self.upper] & 0xFFFF
        self.counts += torch.bincount(half, minlength=1 << 16).cpu()

    def narrow(self) -> None:
        """End a pass."""
        import torch

        if self.threshold is not None:
            return
        if self.upper is None:
            self.total = round(self.share * int(self.counts.sum()))
        upto = self.counts.cumsum(0)
        place = min(int(torch.searchsorted(upto, self.total - self.below)), len(upto) - 1)
        self.below += int(upto[place] - self.counts[place])
        if self.upper is None:
            self.upper = place
        else:
            bits = torch.tensor([(self.upper << 16) | place], dtype=torch.int32)
            self.threshold = float(bits.view(torch.float32))
        self.counts.zero_()

    def mark(self, name: str, scores: torch.Tensor) -> torch.Tensor:
        """Mark the scores of one of the tensors: a mask of their shape."""
        mask = scores < self.threshold
        mask.view(-1)[(scores == self.threshold).flatten().nonzero().flatten()[: self.ties[name]]] = True
        return mask
