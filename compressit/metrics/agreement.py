"""Share of examples on which the artifact predicts what the original predicts; needs no labels."""

from __future__ import annotations

from typing import TYPE_CHECKING

from compressit.metrics import Evidence, Kind, MetricConfig

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

KIND = Kind.MEAN
BETTER = "higher"
UNIT = ""
RANGE = (0, 1)
TO_ORIGINAL = True


class Config(MetricConfig):
    """Fields of the metric."""


def per_example(evidence: Evidence, config: Config) -> NDArray[np.float64]:
    """1 where both say the same: (examples,)."""
    same: NDArray[np.float64] = (evidence.predictions.choices == evidence.reference.choices).astype("float64")
    return same


def measure(evidence: Evidence, config: Config) -> float:
    """Average over the evaluation split."""
    return float(per_example(evidence, config).mean())
