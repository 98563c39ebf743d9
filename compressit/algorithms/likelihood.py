"""What a language model makes of the next token: likelihoods, hits, and closeness to another model.

Shapes: B rows, L positions, V tokens of the vocabulary, N scored positions of a row.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import torch
    from numpy.typing import NDArray

NOT_SCORED = -100
CELLS = 1 << 23
"""Logits worked on at a time, in float64: 64 MB a copy."""


def scored(logits_BLV: torch.Tensor, labels_BL: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Pick the logits that predict a scored token, and those tokens: (N, V) and (N,), over all rows."""
    targets = labels_BL[:, 1:]
    here = targets != NOT_SCORED
    return logits_BLV[:, :-1][here], targets[here]


def sums(
    logits_BLV: NDArray[Any], labels_BL: NDArray[Any], other_BLV: NDArray[Any] | None = None, ahead: int = 1
) -> dict[str, NDArray[Any]]:
    """Sum over the scored tokens of each row; a label is the token at its own position.

    Args:
        logits_BLV: The model's.
        labels_BL: Token ids, `NOT_SCORED` where a token is not judged.
        other_BLV: Logits of another model on the same tokens, to compare with.
        ahead: How many positions before its own a token is predicted; 0 where it is masked.

    Returns:
        `nll` in nats, `tokens` scored, `correct` where the likeliest is the true one; with another model also `agreed`,
        where both find the same token likeliest, and `divergence`, KL(other || model) in nats. Each (B,).
    """
    import numpy as np

    rows = []
    for row, targets_L in enumerate(labels_BL):
        at = np.flatnonzero(targets_L[ahead:] != NOT_SCORED)
        other = None if other_BLV is None else other_BLV[row]
        rows.append(_row(logits_BLV[row], targets_L[ahead:][at], at, other))
    return {name: np.array([row[name] for row in rows]) for name in rows[0]}


def _row(
    logits_LV: NDArray[Any], targets_N: NDArray[Any], at_N: NDArray[Any], other_LV: NDArray[Any] | None
) -> dict[str, float | int]:
    import numpy as np
    import torch

    found: dict[str, float | int] = {"nll": 0.0, "tokens": len(targets_N), "correct": 0}
    if other_LV is not None:
        found |= {"agreed": 0, "divergence": 0.0}
    step = max(1, CELLS // logits_LV.shape[-1])
    for start in range(0, len(at_N), step):
        some = slice(start, start + step)
        targets = torch.from_numpy(targets_N[some].astype(np.int64))
        own = torch.from_numpy(logits_LV[at_N[some]]).double().log_softmax(-1)
        likeliest = own.argmax(-1)
        found["nll"] -= float(own.gather(-1, targets[:, None]).sum())
        found["correct"] += int((likeliest == targets).sum())
        if other_LV is not None:
            other = torch.from_numpy(other_LV[at_N[some]]).double().log_softmax(-1)
            found["agreed"] += int((likeliest == other.argmax(-1)).sum())
            gap = torch.where(other > -torch.inf, other.exp() * (other - own), 0.0)
            found["divergence"] += float(gap.sum(-1).clamp(min=0).sum())
    return found
