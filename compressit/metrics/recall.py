"""Share of the examples of a label that are given it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

from compressit.metrics import Evidence, Kind, MetricConfig, Predictions, _labels

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

KIND = Kind.CORPUS
BETTER = "higher"
UNIT = ""
READS = (Predictions,)
RANGE = (0, 1)


class Config(MetricConfig):
    """Fields of the metric."""

    average: Literal["macro", "micro", "weighted"] = "macro"
    """How the labels' figures become one (as scikit-learn's argument of that name)."""


def sums(evidence: Evidence, config: Config) -> NDArray[np.float64]:
    """What is right, given and true of each label, for each example: (examples, 3 x labels)."""
    return _labels.sums(evidence)


def figure(total: NDArray[np.float64], config: Config) -> float:
    """Make it of their sums, as scikit-learn does; a label that is never predicted counts 0."""
    right_L, _, true_L = _labels.split(total)
    return _labels.averaged(right_L, true_L, total, config.average)


def measure(evidence: Evidence, config: Config) -> float:
    """Compute it over the evaluation split."""
    return figure(sums(evidence, config).sum(0), config)
