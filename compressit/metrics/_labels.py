"""What figures of labels are made of: sums over examples, so that resampling never goes back to the examples."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

import numpy as np

from compressit.metrics import Evidence, MetricConfig, Predictions

if TYPE_CHECKING:
    from numpy.typing import NDArray


class AveragedConfig(MetricConfig):
    """Fields of a metric that makes one figure of those of all labels."""

    average: Literal["macro", "micro", "weighted"] = "macro"
    """How the labels' figures become one (as scikit-learn's argument of that name)."""


def sums(evidence: Evidence, config: MetricConfig) -> NDArray[np.float64]:
    """Mark, label by label, whether it is given and right, whether it is given, and whether it is true.

    Returns:
        (examples, 3 x labels).
    """
    said = evidence.said(Predictions)
    labels_L = np.arange(said.logits.shape[-1])
    given_NL = said.choices[:, None] == labels_L
    true_NL = said.labels[:, None] == labels_L
    return np.concatenate([given_NL & true_NL, given_NL, true_NL], axis=-1).astype(np.float64)


def split(total: NDArray[np.float64]) -> tuple[NDArray[np.float64], ...]:
    """Give how many are right, given and true of each label: (labels,) each."""
    right_L, given_L, true_L = total.reshape(3, -1)
    return right_L, given_L, true_L


def f1(total: NDArray[np.float64], average: str) -> float:
    """Give 2 x right / (given + true)."""
    right_L, given_L, true_L = split(total)
    return averaged(2 * right_L, given_L + true_L, total, average)


def averaged(over: NDArray[np.float64], under: NDArray[np.float64], total: NDArray[np.float64], average: str) -> float:
    """Divide label by label and make one figure of it as scikit-learn does; what is divided by nothing counts 0.

    Args:
        over: (labels,).
        under: (labels,).
        total: As `sums` add up; labels that are neither given nor true don't count.
        average: "macro", "micro" or "weighted".
    """
    if average == "micro":
        return float(over.sum() / under.sum()) if under.any() else 0.0
    _, given_L, true_L = split(total)
    figures_L = np.divide(over, under, out=np.zeros_like(over), where=under > 0)
    weights_L = true_L if average == "weighted" else (given_L + true_L > 0).astype(np.float64)
    return float((figures_L * weights_L).sum() / weights_L.sum()) if weights_L.any() else 0.0
