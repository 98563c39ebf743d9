"""Mean Kullback-Leibler divergence from the original's probabilities of classes, tags or tokens to its own, in nats."""

from __future__ import annotations

from typing import TYPE_CHECKING

from compressit.metrics import Choices, Evidence, Kind, MaskedTokens, MetricConfig, Predictions, Tags, TokenScores

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

KIND = Kind.MEAN
BETTER = "lower"
UNIT = ""
READS = (Choices, Predictions, Tags, TokenScores, MaskedTokens)
TO_ORIGINAL = True
PER_TOKEN = True


class Config(MetricConfig):
    """Fields of the metric."""


def per_example(evidence: Evidence, config: Config) -> NDArray[np.float64]:
    """KL(original || artifact), summed over each example's predictions: (examples,)."""
    return evidence.predictions.divergences(evidence.reference)


def weights(evidence: Evidence, config: Config) -> NDArray[np.int64]:
    """How many predictions there are: (examples,)."""
    return evidence.predictions.weights


def measure(evidence: Evidence, config: Config) -> float:
    """Average over the predictions of the evaluation split."""
    return float(per_example(evidence, config).sum() / weights(evidence, config).sum())
