"""Matthews correlation coefficient: -1 to 1, fair to classes of unequal size."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from compressit.metrics import Evidence, Kind, MetricConfig, Predictions, _labels
from compressit.metrics._labels import sums

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

__all__ = ["Config", "figure", "measure", "sums"]

KIND = Kind.CORPUS
BETTER = "higher"
UNIT = ""
READS = (Predictions,)
RANGE = (-1, 1)


class Config(MetricConfig):
    """Fields of the metric."""


def figure(total: NDArray[np.float64], config: Config) -> float:
    """Make it of their sums (Gorodkin 2004, as scikit-learn does); 0 where one class alone is given or true."""
    right_L, given_L, true_L = _labels.split(total)
    count = true_L.sum()
    spread = (count**2 - given_L @ given_L) * (count**2 - true_L @ true_L)
    return float((right_L.sum() * count - given_L @ true_L) / math.sqrt(spread)) if spread else 0.0


def measure(evidence: Evidence, config: Config) -> float:
    """Compute it over the evaluation split."""
    return figure(sums(evidence, config).sum(0), config)
