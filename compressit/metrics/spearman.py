"""How well the order of similarities follows that of the scores: the correlation of their ranks."""

from __future__ import annotations

from compressit.metrics import Evidence, Kind, MetricConfig, Pairs
from compressit.metrics._correlation import of_ranks

KIND = Kind.CORPUS
BETTER = "higher"
UNIT = ""
READS = (Pairs,)
RANGE = (-1, 1)


class Config(MetricConfig):
    """Fields of the metric."""


def measure(evidence: Evidence, config: Config) -> float:
    """Compute it over the evaluation split; NaN where all scores are the same."""
    said = evidence.said(Pairs)
    return of_ranks(said.cosines, said.scores)
