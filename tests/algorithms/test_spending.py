"""Spending a budget: against every way to spend it."""

import itertools
import random

import pytest

from compressit.algorithms.spending import spend

AMOUNTS = [0.1, 0.3, 0.5, 0.7]


def total(prices, places):
    return sum(own[place] for own, place in zip(prices, places, strict=True))


@pytest.mark.parametrize("seed", range(20))
def test_no_other_way_takes_as_much_for_less(seed):
    draw = random.Random(seed)
    sizes = [draw.randint(1, 9) for _ in range(4)]
    # Prices that rise ever faster, as those of pruning do.
    prices = [[draw.random() * 2.0 ** (draw.uniform(1, 6) * amount) for amount in AMOUNTS] for _ in sizes]
    prices = [sorted(own) for own in prices]
    found = spend(prices, sizes, AMOUNTS, 0.4)
    taken = sum(size * AMOUNTS[place] for size, place in zip(sizes, found, strict=True))
    assert taken >= 0.4 * sum(sizes) - 1e-9
    as_much = [
        places
        for places in itertools.product(range(4), repeat=4)
        if sum(size * AMOUNTS[place] for size, place in zip(sizes, places, strict=True)) >= taken - 1e-9
    ]
    assert total(prices, found) <= min(total(prices, places) for places in as_much) + 1e-9


def test_noise_and_ends():
    # What costs less than a smaller amount costs as much as that: the larger amount is free then.
    assert spend([[1, 0.5, 3, 9], [1, 2, 4, 8]], [1, 1], AMOUNTS, 0.2) == [1, 0]
    assert spend([[1, 1, 1, 1]], [5], AMOUNTS, 0.05) == [0]
    assert spend([[1, 2, 3, 4]], [5], AMOUNTS, 0.99) == [3]
