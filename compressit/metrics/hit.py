"""hit@k: share of groups that have a relevant candidate among the k of highest score.

Groups and labels are as `ndcg` has them. Where candidates of equal score stand at the k-th place, a group counts as
much as a hit is likely among all their orders. A group without a relevant candidate is passed over and counted.

Recipe::

    - metric: hit
      k: 10
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from compressit.metrics import Evidence, Kind, Predictions
from compressit.metrics._ranking import GroupConfig, counts, hits, knows, mean

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


def per_example(evidence: Evidence, config: Config) -> NDArray[np.float64]:
    """Give each group's: (groups,)."""
    return hits(evidence, config)


def measure(evidence: Evidence, config: Config) -> float:
    """Average over groups."""
    return mean(per_example(evidence, config))
