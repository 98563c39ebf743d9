"""Mean Kullback-Leibler divergence from the original's class probabilities to the artifact's, in nats."""

from __future__ import annotations

from typing import TYPE_CHECKING

from compressit.metrics import Evidence, Kind, MetricConfig

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

KIND = Kind.MEAN
BETTER = "lower"
UNIT = ""
TO_ORIGINAL = True


class Config(MetricConfig):
    """Fields of the metric."""


def per_example(evidence: Evidence, config: Config) -> NDArray[np.float64]:
    """KL(original || artifact) of each example: (examples,)."""
    import numpy as np
    from scipy.special import log_softmax

    original = log_softmax(evidence.reference.logits.astype(np.float64), axis=-1)
    artifact = log_softmax(evidence.predictions.logits.astype(np.float64), axis=-1)
    divergence: NDArray[np.float64] = (np.exp(original) * (original - artifact)).sum(-1)
    return np.maximum(divergence, 0.0)


def measure(evidence: Evidence, config: Config) -> float:
    """Average over the evaluation split."""
    return float(per_example(evidence, config).mean())
