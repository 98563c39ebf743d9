"""Area under the ROC curve: how likely an example of a label is scored above one of another; ties count half.

Of two labels it is the area of the second, or of `positive`; of more, the mean of each label's against the others, over
those that occur. Where the data has a group column, bounds come from resampling whole groups.
"""

from __future__ import annotations

import math
from collections.abc import Callable
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
    import numpy as np

    return on_some(evidence, config)(np.arange(len(evidence.predictions)))


def on_some(evidence: Evidence, config: Config) -> Callable[[NDArray[np.int64]], float]:
    """Sort the scores once, and give what computes it on some of the examples, which may repeat."""
    import numpy as np

    said = evidence.said(Predictions)
    classes, one = said.logits.shape[1], 1 if config.positive is None else config.positive
    sought = range(classes) if config.positive is None and classes > 2 else [one]
    ranks = [np.unique(scores(said, label), return_inverse=True)[1] for label in sought]

    def measured(rows: NDArray[np.int64]) -> float:
        areas = [_area(rank[rows], said.labels[rows] == label) for rank, label in zip(ranks, sought, strict=True)]
        found = [area for area in areas if not math.isnan(area)]
        return sum(found) / len(found) if found else math.nan

    return measured


def _area(rank: NDArray[np.int64], positive: NDArray[np.bool_]) -> float:
    """Count, at each rank, the pairs of one that is positive with those below it, and half of those beside it."""
    import numpy as np

    size = int(rank.max()) + 1
    here, others = np.bincount(rank[positive], minlength=size), np.bincount(rank[~positive], minlength=size)
    pairs = here.sum() * others.sum()
    below = np.cumsum(others) - others
    return float((here * (below + others / 2)).sum() / pairs) if pairs else math.nan
