"""Share of examples whose label is the one predicted."""

from __future__ import annotations

from typing import TYPE_CHECKING

from compressit.metrics import Evidence, Kind, MetricConfig, Predictions

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

KIND = Kind.MEAN
BETTER = "higher"
UNIT = ""
READS = (Predictions,)
RANGE = (0, 1)


class Config(MetricConfig):
    """Fields of the metric."""


def per_example(evidence: Evidence, config: Config) -> NDArray[np.float64]:
    """1 where the prediction is right: (examples,)."""
    said = evidence.said(Predictions)
    same: NDArray[np.float64] = (said.choices == said.labels).astype("float64")
    return same


def measure(evidence: Evidence, config: Config) -> float:
    """Average over the evaluation split."""
    return float(per_example(evidence, config).mean())
