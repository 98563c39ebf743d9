"""Area under the ROC curve: how likely an example of a label is scored above one of another; ties count half.

Of two labels it is the area of the second, or of `positive`; of more, the mean of each label's against the others, over
those that occur. Where the data has a group column, bounds come from resampling whole groups.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from compressit.metrics import Evidence, Kind, Predictions
from compressit.metrics._ranking import RankingConfig, knows, scores

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

KIND = Kind.CORPUS
BETTER = "higher"
UNIT = ""
READS = (Predictions,)
RANGE = (0, 1)
fits = knows


class Config(RankingConfig):
    """Fields of the metric."""


def measure(evidence: Evidence, config: Config) -> float:
    """Compute it over the evaluation split; NaN where all examples have one label."""
    said = evidence.said(Predictions)
    classes = said.logits.shape[1]
    sought = (
        range(classes)
        if config.positive is None and classes > 2
        else [1 if config.positive is None else config.positive]
    )
    areas = [_area(scores(said, label), said.labels == label) for label in sought]
    found = [area for area in areas if not math.isnan(area)]
    return sum(found) / len(found) if found else math.nan


def _area(score: NDArray[np.float64], positive: NDArray[np.bool_]) -> float:
    """Count pairs by ranks (Mann and Whitney 1947): a resample takes thousands of them."""
    from scipy.stats import rankdata

    ones, zeros = int(positive.sum()), int((~positive).sum())
    if not ones or not zeros:
        return math.nan
    return float((rankdata(score)[positive].sum() - ones * (ones + 1) / 2) / (ones * zeros))
