"""How many tokens a language model wavers between: exp of the mean negative log likelihood of a scored token."""

from __future__ import annotations

import math

from compressit.metrics import Evidence, Kind, MetricConfig, TokenScores

KIND = Kind.CORPUS
BETTER = "lower"
UNIT = ""
READS = (TokenScores,)
RANGE = (1, math.inf)
PER_TOKEN = True


class Config(MetricConfig):
    """Fields of the metric."""


def measure(evidence: Evidence, config: Config) -> float:
    """Divide all nats by all scored tokens; windows and documents weigh by their length."""
    said = evidence.said(TokenScores)
    mean = float(said.nll.sum() / said.tokens.sum())
    # Beyond that a float ends; a model so broken has no perplexity to speak of.
    return math.inf if mean >= 700 else math.exp(mean)
