"""Bits on disk for each weight, scales and all else included."""

from __future__ import annotations

from compressit.metrics import Evidence, Kind, MetricConfig

KIND = Kind.EXACT
BETTER = "lower"
UNIT = "bits"


class Config(MetricConfig):
    """Fields of the metric."""


def measure(evidence: Evidence, config: Config) -> float:
    """Divide the saved files' size by the number of weights."""
    return 8 * evidence.facts.bytes / max(evidence.facts.parameters, 1)
