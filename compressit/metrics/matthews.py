"""Matthews correlation coefficient: -1 to 1, fair to classes of unequal size."""

from __future__ import annotations

import warnings

from compressit.metrics import Evidence, Kind, MetricConfig, Predictions

KIND = Kind.CORPUS
BETTER = "higher"
UNIT = ""
READS = (Predictions,)
RANGE = (-1, 1)


class Config(MetricConfig):
    """Fields of the metric."""


def measure(evidence: Evidence, config: Config) -> float:
    """Compute it with scikit-learn; 0 where one class alone is predicted."""
    from sklearn.metrics import matthews_corrcoef

    with warnings.catch_warnings():
        # A resample of few examples may hold one label only.
        warnings.simplefilter("ignore")
        said = evidence.said(Predictions)
        return float(matthews_corrcoef(said.labels, said.choices))
