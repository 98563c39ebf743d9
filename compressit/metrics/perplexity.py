"""How many tokens a language model wavers between: exp of the mean negative log likelihood of a scored token."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from compressit.metrics import Evidence, Kind, MaskedTokens, MetricConfig, TokenScores

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

KIND = Kind.CORPUS
BETTER = "lower"
UNIT = ""
READS = (TokenScores, MaskedTokens)
RANGE = (1, math.inf)
PER_TOKEN = True


class Config(MetricConfig):
    """Fields of the metric."""


def sums(evidence: Evidence, config: Config) -> NDArray[np.float64]:
    """Nats and scored tokens of each example: (examples, 2)."""
    import numpy as np

    said = evidence.said(TokenScores)
    return np.stack([said.nll, said.tokens.astype(np.float64)], axis=-1)


def figure(total: NDArray[np.float64], config: Config) -> float:
    """Divide all nats by all scored tokens; windows and documents weigh by their length."""
    mean = float(total[0] / total[1])
    # Beyond that a float ends; a model so broken has no perplexity to speak of.
    return math.inf if mean >= 700 else math.exp(mean)


def measure(evidence: Evidence, config: Config) -> float:
    """Compute it over the evaluation split."""
    return figure(sums(evidence, config).sum(0), config)
