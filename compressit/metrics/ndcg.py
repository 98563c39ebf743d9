"""NDCG@k: how near each group's order by score comes to the best one, highest places first; a mean over groups.

Each row is a candidate of the group that the data's group column names (a query, a user, a session). Its label is 1 or
0, or a grade: the model's ids are grades then, and the score is the grade to be expected. Candidates of equal score
share what their places give. A group without a relevant candidate is passed over and counted.

Recipe::

    - metric: ndcg
      k: 10
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

from compressit.metrics import Evidence, Kind, Predictions
from compressit.metrics._ranking import GroupConfig, counts, gains, knows, mean

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

KIND = Kind.MEAN
BETTER = "higher"
UNIT = ""
READS = (Predictions,)
ROLES = ("group",)
RANGE = (0, 1)
fits, details = knows, counts


class Config(GroupConfig):
    """Fields of the metric."""

    gains: Literal["linear", "exponential"] = "linear"
    """What a grade g is worth: g, as in scikit-learn and trec_eval, or 2^g - 1, as in LightGBM; of 0 and 1 the same."""


def per_example(evidence: Evidence, config: Config) -> NDArray[np.float64]:
    """Give each group's: (groups,)."""
    return gains(evidence, config, exponential=config.gains == "exponential")


def measure(evidence: Evidence, config: Config) -> float:
    """Average over groups."""
    return mean(per_example(evidence, config))
