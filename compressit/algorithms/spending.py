"""Spend a budget where it hurts least: so much to be taken from several parts, each of which has its price."""

from __future__ import annotations

import heapq
from collections.abc import Sequence


def spend(prices: Sequence[Sequence[float]], sizes: Sequence[int], amounts: Sequence[float], share: float) -> list[int]:
    """Choose how much to take from each part.

    The lower convex hull of each part's prices is walked down, the cheapest step of all next: the least sum of prices
    for what is taken, up to the last step, which may take a little more than is asked.

    Args:
        prices: Of each part, what each amount costs; one that costs less than a smaller amount counts as that.
        sizes: How large each part is.
        amounts: Shares that can be taken, rising.
        share: Of all parts together, how much is to be taken.

    Returns:
        For each part, the place of its amount. At least the first amount is taken everywhere, and where even the last
        is too little, that.
    """
    rising = [_rising(each) for each in prices]
    hulls = [_hull(amounts, each) for each in rising]
    at = [0] * len(prices)
    steps: list[tuple[float, int]] = []

    def offer(part: int) -> None:
        """Put the next step along a part's hull up for choice, by its price for each element."""
        if at[part] + 1 < len(hulls[part]):
            own, further = hulls[part][at[part]], hulls[part][at[part] + 1]
            taken = sizes[part] * (amounts[further] - amounts[own])
            heapq.heappush(steps, ((rising[part][further] - rising[part][own]) / taken, part))

    for part in range(len(prices)):
        offer(part)
    left = (share - amounts[0]) * sum(sizes)
    while left > 1e-9 and steps:
        _, part = heapq.heappop(steps)
        own, further = hulls[part][at[part]], hulls[part][at[part] + 1]
        left -= sizes[part] * (amounts[further] - amounts[own])
        at[part] += 1
        offer(part)
    return [hull[place] for hull, place in zip(hulls, at, strict=True)]


def _rising(prices: Sequence[float]) -> list[float]:
    """Let no amount cost less than a smaller one: measured prices are noisy."""
    found: list[float] = []
    for price in prices:
        found.append(max(price, found[-1] if found else price))
    return found


def _hull(amounts: Sequence[float], prices: Sequence[float]) -> list[int]:
    """List the places on the lower convex hull, from the first to the last."""
    hull: list[int] = []
    for place in range(len(amounts)):
        while len(hull) > 1 and _above(hull[-2], hull[-1], place, amounts, prices):
            hull.pop()
        hull.append(place)
    return hull


def _above(first: int, middle: int, last: int, x: Sequence[float], y: Sequence[float]) -> bool:
    """Tell whether the middle one of three points lies on the line between the others, or above it."""
    return (y[middle] - y[first]) * (x[last] - x[first]) >= (y[last] - y[first]) * (x[middle] - x[first])
