"""Share of rows whose whole continuation is what the model would have written, token by token, as LAMBADA asks."""

from __future__ import annotations

from typing import TYPE_CHECKING

from compressit.metrics import Evidence, Kind, MetricConfig, TokenScores

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

KIND = Kind.MEAN
BETTER = "higher"
UNIT = ""
READS = (TokenScores,)
ROLES = ("continuation",)
RANGE = (0, 1)


class Config(MetricConfig):
    """Fields of the metric."""


def per_example(evidence: Evidence, config: Config) -> NDArray[np.float64]:
    """1 where every token of the continuation is the likeliest: (examples,)."""
    said = evidence.said(TokenScores)
    whole: NDArray[np.float64] = (said.correct == said.tokens).astype("float64")
    return whole


def measure(evidence: Evidence, config: Config) -> float:
    """Average over the evaluation split."""
    return float(per_example(evidence, config).mean())
