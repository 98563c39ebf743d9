"""Share of the examples given a label that have it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from compressit.metrics import Evidence, Kind, Predictions, _labels
from compressit.metrics._labels import sums

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

__all__ = ["Config", "figure", "measure", "sums"]

KIND = Kind.CORPUS
BETTER = "higher"
UNIT = ""
READS = (Predictions,)
RANGE = (0, 1)


class Config(_labels.AveragedConfig):
    """Fields of the metric."""


def figure(total: NDArray[np.float64], config: Config) -> float:
    """Make it of their sums, as scikit-learn does; a label that is never predicted counts 0."""
    right_L, given_L, _ = _labels.split(total)
    return _labels.averaged(right_L, given_L, total, config.average)


def measure(evidence: Evidence, config: Config) -> float:
    """Compute it over the evaluation split."""
    return figure(sums(evidence, config).sum(0), config)
