"""Spend a budget where it hurts least: so much to be taken from several parts, or to be had for them, at a price."""

from __future__ import annotations

import heapq
import itertools
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


def afford(prices: Sequence[Sequence[float]], costs: Sequence[Sequence[float]], budget: float) -> list[int]:
    """Choose an option for each part that a budget can pay for, so that little is lost over all.

    The lower convex hull of each part is walked from the cheapest option on, the step that saves most for what it costs
    next; one that can't be paid for is passed over. What is left then goes to whatever it still pays for. Where the
    same option for all parts would have lost less, it is that.

    Args:
        prices: Of each part, what is lost with each option; one that loses more than a cheaper one counts as that.
        costs: What each option costs, rising.
        budget: What all may cost together; never more is spent.

    Returns:
        For each part, the place of its option: the first everywhere where not even that can be paid for.
    """
    falling = [list(itertools.accumulate(each, min)) for each in prices]
    hulls = [_hull(own, each) for own, each in zip(costs, falling, strict=True)]
    at = [0] * len(prices)
    left = budget - sum(own[0] for own in costs)

    def gain(part: int, option: int) -> float:
        saved = falling[part][at[part]] - falling[part][option]
        return saved / (costs[part][option] - costs[part][at[part]])

    steps = [(-gain(part, hull[1]), part, 1) for part, hull in enumerate(hulls) if len(hull) > 1]
    heapq.heapify(steps)
    while steps:
        _, part, step = heapq.heappop(steps)
        option = hulls[part][step]
        extra = costs[part][option] - costs[part][at[part]]
        if extra <= left:
            at[part], left = option, left - extra
        if step + 1 < len(hulls[part]):
            heapq.heappush(steps, (-gain(part, hulls[part][step + 1]), part, step + 1))
    while True:
        open_to = [
            (gain(part, option), part, option)
            for part, own in enumerate(costs)
            for option in range(at[part] + 1, len(own))
            if own[option] - own[at[part]] <= left and falling[part][option] < falling[part][at[part]]
        ]
        if not open_to:
            break
        _, part, option = max(open_to)
        left -= costs[part][option] - costs[part][at[part]]
        at[part] = option
    alike = [[option] * len(prices) for option in range(min(len(each) for each in prices))]
    paid = [each for each in alike if _sum(costs, each) <= budget]
    return min([at, *paid], key=lambda places: _sum(falling, places))


def _sum(table: Sequence[Sequence[float]], places: Sequence[int]) -> float:
    return sum(own[place] for own, place in zip(table, places, strict=True))


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
