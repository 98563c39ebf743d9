"""Bytes on disk of the files that hold weights; tokenizer and config are not counted."""

from __future__ import annotations

from compressit.metrics import Evidence, Kind, MetricConfig

KIND = Kind.EXACT
BETTER = "lower"
UNIT = "bytes"


class Config(MetricConfig):
    """Fields of the metric."""


def measure(evidence: Evidence, config: Config) -> float:
    """Read it from the saved files."""
    return float(evidence.facts.bytes)
