"""Run opened artifacts side by side, in an order drawn anew in each round: each twice on a batch, the second timed."""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from compressit.runtimes import Batch, Session

WARM_UP = 3
RUNS = (21, 101)
SECONDS = 3.0
"""Rounds take about this long at each batch size, within the least and most number of them."""


def interleave(
    sessions: Mapping[str, Session],
    batches: Callable[[], Mapping[str, Batch]],
    draw: random.Random,
    seconds: float = SECONDS,
) -> dict[str, Any]:
    """Time sessions side by side.

    Args:
        sessions: By name; one may come under several.
        batches: Gives each one's next batch, by name.
        draw: Draws the order of each round.
        seconds: That the rounds shall take about; longer ones have more rounds.

    Returns:
        By name, the seconds of each round: (rounds,).
    """
    spent = min(_round(sessions, batches(), draw)[1] for _ in range(WARM_UP))
    most = RUNS[1] * max(1.0, seconds / SECONDS)
    runs = int(min(most, max(RUNS[0], seconds / max(spent, 1e-9))))
    rounds = [_round(sessions, batches(), draw)[0] for _ in range(runs)]
    return {role: np.array([took[role] for took in rounds]) for role in sessions}


def _round(
    sessions: Mapping[str, Session], batches: Mapping[str, Batch], draw: random.Random
) -> tuple[dict[str, float], float]:
    took = {}
    for role in draw.sample(sorted(sessions), len(sessions)):
        # What ran last was another model: caches are cold for this one, and its threads asleep. Without a run that
        # isn't timed, a model that comes twice in a round would seem faster than its own copy.
        sessions[role](batches[role])
        start = time.perf_counter()
        sessions[role](batches[role])
        took[role] = time.perf_counter() - start
    return took, sum(took.values())
