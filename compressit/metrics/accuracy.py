"""Share of predictions that are right: of examples' labels, words' tags, or masked tokens."""

from __future__ import annotations

from typing import TYPE_CHECKING

from compressit.metrics import Choices, Evidence, Kind, MaskedTokens, MetricConfig, Predictions, Tags

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

KIND = Kind.MEAN
BETTER = "higher"
UNIT = ""
READS = (Choices, Predictions, Tags, MaskedTokens)
RANGE = (0, 1)
PER_TOKEN = True


class Config(MetricConfig):
    """Fields of the metric."""


def per_example(evidence: Evidence, config: Config) -> NDArray[np.float64]:
    """How many predictions are right: (examples,)."""
    return evidence.predictions.hits()


def weights(evidence: Evidence, config: Config) -> NDArray[np.int64]:
    """How many predictions there are: (examples,)."""
    return evidence.predictions.weights


def measure(evidence: Evidence, config: Config) -> float:
    """Average over the predictions of the evaluation split."""
    return float(per_example(evidence, config).sum() / weights(evidence, config).sum())
