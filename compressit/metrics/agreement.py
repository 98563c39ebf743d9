"""Share of predictions, of classes, tags, tokens, answers or texts, that are the original's too; needs no labels."""

from __future__ import annotations

from typing import TYPE_CHECKING

from compressit.metrics import (
    Answers,
    Choices,
    Evidence,
    Kind,
    MaskedTokens,
    MetricConfig,
    Predictions,
    Tags,
    Texts,
    TokenScores,
)

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

KIND = Kind.MEAN
BETTER = "higher"
UNIT = ""
READS = (Answers, Choices, Predictions, Tags, Texts, TokenScores, MaskedTokens)
RANGE = (0, 1)
TO_ORIGINAL = True
PER_TOKEN = True


class Config(MetricConfig):
    """Fields of the metric."""


def per_example(evidence: Evidence, config: Config) -> NDArray[np.float64]:
    """How many predictions are the same: (examples,)."""
    return evidence.predictions.agreements(evidence.reference)


def weights(evidence: Evidence, config: Config) -> NDArray[np.int64]:
    """How many predictions there are: (examples,)."""
    return evidence.predictions.weights


def measure(evidence: Evidence, config: Config) -> float:
    """Average over the predictions of the evaluation split."""
    return float(per_example(evidence, config).sum() / weights(evidence, config).sum())
