"""How well a classifier's score puts the examples of a group in order. Shapes: N examples, G groups."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from pydantic import Field

from compressit.errors import RecipeError
from compressit.metrics import Evidence, MetricConfig, Predictions

if TYPE_CHECKING:
    from collections.abc import Mapping

    import numpy as np
    from numpy.typing import NDArray


class RankingConfig(MetricConfig):
    """Fields of a metric that ranks examples by a score."""

    positive: int | None = Field(None, ge=0)
    """The model's id of the label that is sought (default: ids are grades, of which 0 is none; of two labels, 1)."""


class GroupConfig(RankingConfig):
    """Fields of a metric of the first few examples of each group."""

    k: int = Field(10, ge=1)
    """How many of a group's examples count, from the highest score down."""


def knows(config: RankingConfig, labels: Mapping[int, str]) -> None:
    """Raise RecipeError where the model has no such label."""
    if config.positive is not None and config.positive not in labels:
        own = ", ".join(f"{index} ({name})" for index, name in labels.items())
        raise RecipeError(f"{config.key}: positive: {config.positive} is none of the model's labels: {own}")


def relevance(said: Predictions, positive: int | None) -> NDArray[np.int64]:
    """Give each example's grade: its label's id, or 1 where that is the one sought: (N,)."""
    found: NDArray[np.int64] = said.labels if positive is None else (said.labels == positive).astype("int64")
    return found


def scores(said: Predictions, positive: int | None) -> NDArray[np.float64]:
    """Score each example: (N,).

    For one label the odds of it, in logarithms, which order as its probability does and don't round to 1; for more
    than two grades the one to be expected (McRank, Li et al. 2007).
    """
    import numpy as np
    from scipy.special import logsumexp, softmax

    logits = said.logits.astype(np.float64)
    if positive is None and logits.shape[1] > 2:
        found: NDArray[np.float64] = softmax(logits, axis=-1) @ np.arange(logits.shape[1])
        return found
    at = 1 if positive is None else positive
    odds: NDArray[np.float64] = logits[:, at] - logsumexp(np.delete(logits, at, axis=1), axis=1)
    return odds


def gains(evidence: Evidence, config: GroupConfig, *, exponential: bool) -> NDArray[np.float64]:
    """NDCG@k of each group that has a relevant example: (G,).

    Examples of equal score share what their places give, which is what any order of them gives on average (McSherry and
    Najork 2008), so that no figure hangs on the order of the rows.
    """
    import numpy as np

    said = evidence.said(Predictions)
    grade_N = relevance(said, config.positive).astype(np.float64)
    gain_N = np.exp2(grade_N) - 1 if exponential else grade_N
    groups = _groups(said)
    found_G = _discounted(scores(said, config.positive), gain_N, groups, config.k)
    ideal_G = _discounted(grade_N, gain_N, groups, config.k)
    judged = ideal_G > 0
    # The two sums add up in different orders.
    shares: NDArray[np.float64] = np.minimum(found_G[judged] / ideal_G[judged], 1.0)
    return shares


def hits(evidence: Evidence, config: GroupConfig) -> NDArray[np.float64]:
    """Say of each group that has a relevant example how likely one is among the first k, ties in any order: (G,)."""
    import numpy as np

    said = evidence.said(Predictions)
    relevant_N = relevance(said, config.positive) > 0
    score_N, group_N = scores(said, config.positive), _groups(said)
    order = np.lexsort((-score_N, group_N))
    found = []
    for members in np.split(order, np.flatnonzero(np.diff(group_N[order])) + 1):
        if relevant_N[members].any():
            found.append(_hit(score_N[members], relevant_N[members], config.k))
    return np.array(found, dtype=np.float64)


def counts(evidence: Evidence, config: GroupConfig) -> dict[str, float]:
    """Count the groups that are judged, and those passed over for want of a relevant example."""
    import numpy as np

    said = evidence.said(Predictions)
    groups = _groups(said)
    judged = len(np.unique(groups[relevance(said, config.positive) > 0]))
    return {"groups": float(judged), "passed_over": float(len(np.unique(groups)) - judged)}


def mean(shares: NDArray[np.float64]) -> float:
    """Average over groups; NaN where there are none to judge."""
    return float(shares.mean()) if len(shares) else math.nan


def _groups(said: Predictions) -> NDArray[np.int64]:
    assert said.groups is not None, "a run asks for the group column before it begins"
    return said.groups


def _hit(score: NDArray[np.float64], relevant: NDArray[np.bool_], k: int) -> float:
    """Judge one group, highest score first."""
    if k >= len(score):
        return 1.0
    tied = score == score[k - 1]
    above = int((score > score[k - 1]).sum())
    if relevant[:above].any():
        return 1.0
    misses = math.comb(int((tied & ~relevant).sum()), k - above)
    return 1 - misses / math.comb(int(tied.sum()), k - above)


def _discounted(
    score_N: NDArray[np.float64], gain_N: NDArray[np.float64], group_N: NDArray[np.int64], k: int
) -> NDArray[np.float64]:
    """Sum a group's gains, each divided by log2 of its place, which counts from 2: (G,)."""
    import numpy as np

    order = np.lexsort((-score_N, group_N))
    group, score, gain = group_N[order], score_N[order], gain_N[order]
    new = np.append(True, np.diff(group) != 0)
    first = np.flatnonzero(new)[np.cumsum(new) - 1]
    place = np.arange(len(group)) - first
    weight = np.where(place < k, 1 / np.log2(place + 2.0), 0.0)
    tie = np.cumsum(new | np.append(True, np.diff(score) != 0)) - 1
    shared = np.bincount(tie, gain) / np.bincount(tie)
    found: NDArray[np.float64] = np.bincount(np.cumsum(new) - 1, shared[tie] * weight).astype(np.float64)
    return found
