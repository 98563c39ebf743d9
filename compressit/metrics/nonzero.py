"""Share of the weights that are not zero."""

from __future__ import annotations

from compressit.metrics import Evidence, Kind, MetricConfig

KIND = Kind.EXACT
BETTER = "lower"
UNIT = ""
RANGE = (0, 1)


class Config(MetricConfig):
    """Fields of the metric."""


def measure(evidence: Evidence, config: Config) -> float:
    """Count them in the saved files."""
    return evidence.facts.nonzero / max(evidence.facts.parameters, 1)
