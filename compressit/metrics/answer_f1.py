"""Words that an answer and the nearest true one have in common, as SQuAD counts them; of Chinese, characters."""

from __future__ import annotations

from typing import TYPE_CHECKING

from compressit.metrics import Answers, Evidence, Kind, MetricConfig

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

KIND = Kind.MEAN
BETTER = "higher"
UNIT = ""
READS = (Answers,)
RANGE = (0, 1)


class Config(MetricConfig):
    """Fields of the metric."""


def per_example(evidence: Evidence, config: Config) -> NDArray[np.float64]:
    """Give each question's: (examples,)."""
    return evidence.said(Answers).f1


def measure(evidence: Evidence, config: Config) -> float:
    """Average over the evaluation split."""
    return float(per_example(evidence, config).mean())


def details(evidence: Evidence, config: Config) -> dict[str, float]:
    """Tell questions that have an answer from those that have none."""
    return evidence.said(Answers).apart(per_example(evidence, config))
