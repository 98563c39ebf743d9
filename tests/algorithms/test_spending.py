"""Spending a budget: against every way to spend it."""

import itertools
import random

import pytest

from compressit.algorithms.spending import afford, spend

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


@pytest.mark.parametrize("seed", range(40))
def test_what_is_afforded_is_paid_for_and_next_to_the_best_way(seed):
    draw = random.Random(seed)
    sizes = [draw.randint(1, 9) for _ in range(4)]
    costs = [[size * bits for bits in (2, 3, 4, 8)] for size in sizes]
    # Losses fall by about a quarter with each bit, as those of rounding do, give or take some noise.
    prices = [[draw.random() * draw.uniform(0.5, 2) * 4.0**-bits for bits in (2, 3, 4, 8)] for _ in sizes]
    budget = draw.uniform(2, 8) * sum(sizes)
    found = afford(prices, costs, budget)
    assert total(costs, found) <= budget
    falling = [[min(own[: place + 1]) for place in range(4)] for own in prices]
    ways = [places for places in itertools.product(range(4), repeat=4) if total(costs, places) <= budget]
    best = min(ways, key=lambda places: total(falling, places))
    # The first step that can't be paid for is all that another way could gain.
    most = max(own[0] for own in falling)
    assert total(falling, found) - total(falling, best) <= most
    for option in range(4):
        if (option,) * 4 in ways:
            assert total(falling, found) <= total(falling, (option,) * 4), "never worse than the same for all"
    for part, place in itertools.product(range(4), range(4)):
        other = [place if index == part else own for index, own in enumerate(found)]
        if place > found[part] and total(costs, other) <= budget:
            assert total(falling, other) == total(falling, found), "nothing that is left would help"


def test_a_budget_that_pays_for_the_cheapest_alone():
    assert afford([[4, 1], [2, 1]], [[1, 2], [1, 2]], 2) == [0, 0]
    assert afford([[4, 1], [2, 1]], [[1, 2], [1, 2]], 3) == [1, 0], "where it saves most"
    assert afford([[4, 5], [2, 1]], [[1, 2], [1, 2]], 3) == [0, 1], "what loses more is no better"
    assert afford([[4, 1]], [[3, 5]], 1) == [0]
