"""Differences and ratios of figures that come from two samples: published values and error rates."""

import math

import numpy as np
import pytest

from compressit.report import statistics
from compressit.report.statistics import Interval


def shares(a, m, b, n, confidence=0.95):
    one, other = (statistics.proportion(k, count, confidence=confidence) for k, count in ((a, m), (b, n)))
    return statistics.unpaired_difference(a / m, one, b / n, other)


@pytest.mark.parametrize(
    ("table", "low", "high"),
    [((56, 70, 48, 80), 0.0524, 0.3339), ((9, 10, 3, 10), 0.1705, 0.8090), ((10, 10, 0, 10), 0.6075, 1.0)],
)
def test_newcombe_gives_published_values(table, low, high):
    """Newcombe 1998, Statistics in Medicine 17, 873-890, table II, method 10."""
    interval = shares(*table, confidence=0.975)
    assert (round(interval.low, 4), round(interval.high, 4)) == (low, high)


@pytest.mark.parametrize(("p", "drop"), [(0.9, 0.0), (0.9, 0.02), (0.6, 0.05), (0.98, 0.02)])
@pytest.mark.parametrize(("m", "n"), [(200, 800), (500, 300)])
def test_a_loss_as_large_as_allowed_passes_one_time_in_twenty(p, drop, m, n):
    """All tables there may be, each with its probability: the bound lies above the truth in about 5% of them."""
    from scipy.stats import binom

    a, b = np.arange(m + 1), np.arange(n + 1)
    pa, pb = binom.pmf(a, m, p - drop), binom.pmf(b, n, p)
    likely_a, likely_b = a[pa > 1e-6], b[pb > 1e-6]
    own = {int(k): statistics.proportion(int(k), m) for k in likely_a}
    other = {int(k): statistics.proportion(int(k), n) for k in likely_b}
    passed = failed = 0.0
    for i, one in own.items():
        for j, two in other.items():
            found = statistics.unpaired_difference(i / m, one, j / n, two)
            passed += pa[i] * pb[j] * (found.low > -drop)
            failed += pa[i] * pb[j] * (found.high < -drop)
    assert 0.025 < passed < 0.065
    assert 0.025 < failed < 0.075


def test_means_of_skewed_values_err_about_as_often():
    draw, wrong = np.random.default_rng(0), np.zeros((2, 2))
    for _ in range(400):
        a, b = draw.exponential(2.0, 50), draw.exponential(1.0, 80)
        one, other = statistics.mean(a), statistics.mean(b)
        difference = statistics.unpaired_difference(a.mean(), one, b.mean(), other)
        ratio = statistics.unpaired_ratio(a.mean(), one, b.mean(), other)
        wrong[0] += difference.low > 1.0, difference.high < 1.0
        wrong[1] += ratio.low > 2.0, ratio.high < 2.0
    assert bool(((wrong / 400 > 0.015) & (wrong / 400 < 0.085)).all()), wrong / 400


def test_swapped_figures_have_the_opposite_difference_and_the_inverse_ratio():
    one, other = Interval(0.7, 0.95), Interval(0.4, 0.65)
    forth, back = (statistics.unpaired_difference(*pair) for pair in ((0.9, one, 0.5, other), (0.5, other, 0.9, one)))
    assert (forth.low, forth.high) == pytest.approx((-back.high, -back.low))
    forth, back = (statistics.unpaired_ratio(*pair) for pair in ((0.9, one, 0.5, other), (0.5, other, 0.9, one)))
    assert (forth.low, forth.high) == pytest.approx((1 / back.high, 1 / back.low))


def test_what_has_no_bound_gives_none():
    wide = Interval(-math.inf, math.inf)
    assert statistics.unpaired_difference(1.0, wide, 1.0, Interval(0.5, 1.5)) == wide
    assert statistics.unpaired_difference(math.nan, Interval(0, 1), 1.0, Interval(0.5, 1.5)) == wide
    assert statistics.unpaired_ratio(1.0, Interval(0.0, 2.0), 1.0, Interval(0.5, 1.5)).low == 0.0
    assert statistics.unpaired_ratio(-1.0, Interval(-2.0, 2.0), 1.0, Interval(0.5, 1.5)) == Interval(0.0, math.inf)


def test_as_many_examples_as_it_says_decide_four_times_in_five():
    reference, bounds = 0.9, statistics.proportion(1800, 2000)
    own = statistics.proportion(190, 200)
    needed = statistics.examples_needed_unpaired(0.90, Interval(0.862, 0.929), 200, reference, bounds, 0.03)
    draw, passed = np.random.default_rng(0), 0
    for right in draw.binomial(needed, 0.9, 2000):
        found = statistics.unpaired_difference(right / needed, statistics.proportion(int(right), needed), 0.9, bounds)
        passed += found.low > -0.03
    assert passed / 2000 == pytest.approx(0.8, abs=0.05)
    assert statistics.examples_needed_unpaired(0.95, own, 200, reference, bounds, -0.05) is None, "on the margin"
    wide = statistics.proportion(18, 20)
    assert statistics.examples_needed_unpaired(0.9, own, 200, 0.9, wide, 0.03) is None, "the reference is too unsure"
