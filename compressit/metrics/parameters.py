"""How many weights the network has, whatever their precision."""

from __future__ import annotations

from compressit.metrics import Evidence, Kind, MetricConfig

KIND = Kind.EXACT
BETTER = "lower"
UNIT = "count"


class Config(MetricConfig):
    """Fields of the metric."""


def measure(evidence: Evidence, config: Config) -> float:
    """Count them in the saved files."""
    return float(evidence.facts.parameters)
