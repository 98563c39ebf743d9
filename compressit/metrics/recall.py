"""Share of the examples of a label that are given it."""

from __future__ import annotations

from typing import Literal

from compressit.metrics import Evidence, Kind, MetricConfig, Predictions

KIND = Kind.CORPUS
BETTER = "higher"
UNIT = ""
READS = (Predictions,)
RANGE = (0, 1)


class Config(MetricConfig):
    """Fields of the metric."""

    average: Literal["macro", "micro", "weighted"] = "macro"
    """How the labels' figures become one (as scikit-learn's argument of that name)."""


def measure(evidence: Evidence, config: Config) -> float:
    """Compute it with scikit-learn; a label that is never predicted counts 0."""
    from sklearn.metrics import recall_score

    said = evidence.said(Predictions)
    return float(recall_score(said.labels, said.choices, average=config.average, zero_division=0))
