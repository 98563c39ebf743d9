"""Memory that opening the artifact and running one batch adds at the peak, measured once in a process of its own."""

from __future__ import annotations

from compressit.metrics import Evidence, Kind, MetricConfig

KIND = Kind.EXACT
BETTER = "lower"
UNIT = "bytes"
ON_EXAMPLES = True
IN_MEMORY = True


class Config(MetricConfig):
    """Fields of the metric."""


def measure(evidence: Evidence, config: Config) -> float:
    """Take what the measuring process saw."""
    return float(evidence.memory)
