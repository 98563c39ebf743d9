"""Correlations, quick enough to be taken of thousands of resamples."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray


def linear(one: NDArray[np.float64], other: NDArray[np.float64]) -> float:
    """Pearson's r; NaN where either never changes or is NaN somewhere."""
    import numpy as np

    first, second = one - one.mean(), other - other.mean()
    scale = float(np.sqrt((first**2).sum() * (second**2).sum()))
    return float((first * second).sum()) / scale if scale > 0 else math.nan


def of_ranks(one: NDArray[np.float64], other: NDArray[np.float64]) -> float:
    """Spearman's rho: Pearson's r of ranks, ties sharing the mean of theirs."""
    from scipy.stats import rankdata

    return linear(rankdata(one, nan_policy="propagate"), rankdata(other, nan_policy="propagate"))
