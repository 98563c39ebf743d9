"""The bounds that verdicts rest on: against published values, brute force, and their own error rates."""

from __future__ import annotations

import math
import subprocess
import sys
import tracemalloc
from collections.abc import Iterator

import numpy as np
import pytest

from compressit.errors import DataError
from compressit.report import statistics
from compressit.report.statistics import Interval

TWO_SIDED_95 = 0.975
UNBOUNDED = Interval(-math.inf, math.inf)


def answers(gained: int, lost: int, n: int) -> tuple[np.ndarray, np.ndarray]:
    """Right answers of a candidate and a reference that disagree on so many of n examples."""
    candidate, reference = np.ones(n, dtype=bool), np.ones(n, dtype=bool)
    reference[:gained] = False
    candidate[gained : gained + lost] = False
    return candidate, reference


def difference(gained: int, lost: int, n: int, confidence: float = 0.95) -> Interval:
    return statistics.paired_difference(*answers(gained, lost, n), confidence=confidence)


def likely_tables(n: int, gain: float, loss: float) -> Iterator[tuple[int, int, float]]:
    """Numbers of answers gained and lost, and how probable they are: all but 1e-4 of the probability."""
    from scipy.stats import binom

    for gained in range(n + 1):
        p_gained = binom.pmf(gained, n, gain)
        if p_gained < 1e-7:
            continue
        lost = np.arange(n - gained + 1)
        p = p_gained * binom.pmf(lost, n - gained, loss / (1 - gain))
        yield from ((gained, int(k), float(p[k])) for k in lost[p > 1e-7])


# Shares


def test_wilson_gives_newcombes_published_values() -> None:
    """Newcombe 1998, Statistics in Medicine 17, 857-872, table I, method 3."""
    for successes, n, low, high in [(81, 263, 0.2553, 0.3662), (15, 148, 0.0624, 0.1605), (0, 20, 0.0, 0.1611)]:
        interval = statistics.proportion(successes, n, confidence=TWO_SIDED_95)
        assert (round(interval.low, 4), round(interval.high, 4)) == (low, high)


def test_a_share_keeps_to_the_scale() -> None:
    assert statistics.proportion(0, 7).low == 0.0
    assert statistics.proportion(7, 7).high == 1.0
    assert statistics.proportion(0, 0) == Interval(0.0, 1.0)
    with pytest.raises(ValueError, match="8 out of 7"):
        statistics.proportion(8, 7)


def test_tango_gives_published_values() -> None:
    """Cavo et al. 2012 as in Fagerland, Lydersen & Laake, "Statistical Analysis of Contingency Tables", chapter 8."""
    interval = difference(gained=6, lost=16, n=161, confidence=TWO_SIDED_95)
    assert interval.low == pytest.approx(-0.1240, abs=5e-5)
    assert interval.high == pytest.approx(-0.0054, abs=5e-5)


@pytest.mark.parametrize("table", [(0, 1, 2), (1, 0, 3), (0, 3, 40), (2, 2, 4), (5, 0, 5), (3, 9, 44), (6, 16, 161)])
def test_tango_inverts_the_score_test(table: tuple[int, int, int]) -> None:
    """Maximize the likelihood and reject by brute force, on a grid of differences."""
    gained, lost, n = table
    low, high = 2.0, -2.0
    for at in np.linspace(-0.999, 0.999, 1000):
        share_lost = np.linspace(max(0.0, -at), (1 - at) / 2, 1001)[1:-1]
        likelihood = (
            gained * np.log(share_lost + at)
            + lost * np.log(share_lost)
            + (n - gained - lost) * np.log(1 - 2 * share_lost - at)
        )
        best = share_lost[likelihood.argmax()]
        score = (gained - lost - n * at) / math.sqrt(n * (2 * best + at - at * at))
        low, high = (min(low, at) if score <= 1.6449 else low), (max(high, at) if score >= -1.6449 else high)
    interval = difference(gained, lost, n)
    assert interval.low == pytest.approx(low, abs=4e-3)
    assert interval.high == pytest.approx(high, abs=4e-3)


@pytest.mark.parametrize("n", [1, 2, 10, 872, 100_000])
def test_models_that_never_disagree_are_not_proven_equal(n: int) -> None:
    z = 1.6448536269514722
    interval = difference(0, 0, n)
    assert interval.high == pytest.approx(z * z / (n + z * z), abs=1e-9)
    assert interval.low == pytest.approx(-interval.high, abs=1e-9)


def test_tango_at_the_ends() -> None:
    for n in (1, 2, 50):
        assert difference(0, n, n).low == -1.0
        assert difference(n, 0, n).high == 1.0
        assert -1.0 < difference(n, 0, n).low < 1.0
        assert -1.0 < difference(0, n, n).high < 1.0
    assert statistics.paired_difference([], []) == Interval(-1.0, 1.0)


def test_tango_is_symmetric() -> None:
    assert difference(3, 8, 60).low == pytest.approx(-difference(8, 3, 60).high)


@pytest.mark.parametrize(("n", "margin", "discordance"), [(200, 0.01, 0.06), (1000, 0.01, 0.06), (300, 0.02, 0.04)])
def test_a_drop_as_large_as_the_margin_passes_one_time_in_twenty(n: int, margin: float, discordance: float) -> None:
    tables = likely_tables(n, gain=(discordance - margin) / 2, loss=(discordance + margin) / 2)
    passed = sum(p for gained, lost, p in tables if difference(gained, lost, n).low > -margin)
    assert passed <= 0.055


def test_where_every_flip_is_a_loss_it_errs_hardly_more() -> None:
    """The worst corner of an approximate test: only losses, and so few of them that each is a large step."""
    tables = likely_tables(300, gain=0.0, loss=0.02)
    assert sum(p for gained, lost, p in tables if difference(gained, lost, 300).low > -0.02) <= 0.065


def test_as_many_examples_as_it_says_give_the_power_it_says() -> None:
    n = statistics.examples_needed(discordance=0.06, margin=0.03)
    assert n is not None
    tables = likely_tables(n, gain=0.03, loss=0.03)
    passed = sum(p for gained, lost, p in tables if difference(gained, lost, n).low > -0.03)
    assert passed == pytest.approx(0.8, abs=0.05)


def test_answers_must_pair() -> None:
    with pytest.raises(DataError, match="can't be paired"):
        statistics.paired_difference([True, False], [True])
    with pytest.raises(DataError, match="can't be paired"):
        statistics.paired_time_ratio([1.0, 2.0], [1.0])
    with pytest.raises(TypeError, match="booleans"):
        statistics.paired_difference([1.0, math.nan], [1.0, 1.0])


def test_mcnemar_counts_flips() -> None:
    """Cavo et al. 2012 again: exact p = 0.052479."""
    flips = statistics.mcnemar(*answers(gained=6, lost=16, n=161))
    assert (flips.lost, flips.gained) == (16, 6)
    assert flips.p_value == pytest.approx(0.052479, abs=1e-6)
    assert statistics.mcnemar([True], [True]) == (0, 0, 1.0)
    assert statistics.mcnemar([], []) == (0, 0, 1.0)


# How many examples


def test_examples_needed() -> None:
    assert statistics.examples_needed(0.06, 0.01) == pytest.approx(6.18 * 0.06 / 0.01**2, abs=3)
    assert statistics.examples_needed(0.02, 0.01) == pytest.approx(6.18 * 0.02 / 0.01**2, abs=3)
    assert statistics.examples_needed(0.06, 0.01, difference=0.01) == pytest.approx(6.18 * 0.06 / 0.02**2, abs=3)
    assert statistics.examples_needed(0.06, 0.01, difference=-0.01) is None


@pytest.mark.parametrize("margin", [0.01, 0.05, 0.2])
def test_without_discordant_pairs_the_count_is_tangos(margin: float) -> None:
    n = statistics.examples_needed(0.0, margin)
    assert n is not None
    assert difference(0, 0, n).low > -margin - 1e-9
    assert difference(0, 0, n - 1).low < -margin


def test_examples_needed_for_a_proportion() -> None:
    from scipy.stats import binom

    n = statistics.examples_needed_for_proportion(0.9, 0.87)
    assert n is not None
    passed = sum(binom.pmf(k, n, 0.9) for k in range(n + 1) if statistics.proportion(k, n).low > 0.87)
    assert passed == pytest.approx(0.8, abs=0.03)
    assert statistics.examples_needed_for_proportion(0.9, 0.9) is None
    sure = statistics.examples_needed_for_proportion(1.0, 0.9)
    assert sure is not None
    assert statistics.proportion(sure, sure).low >= 0.9 > statistics.proportion(sure - 1, sure - 1).low


# Means


@pytest.fixture
def fewer_resamples(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(statistics, "RESAMPLES", 1000)


@pytest.mark.usefixtures("fewer_resamples")
@pytest.mark.parametrize("n", [10, 60])
def test_bounds_of_means_err_one_time_in_twenty_on_each_side(n: int) -> None:
    generator = np.random.default_rng(n)
    above = below = 0
    for trial in range(400):
        reference = generator.gamma(4.0, size=n)
        candidate = reference + generator.normal(0.1, 0.3, size=n)
        interval = statistics.paired_mean_difference(candidate, reference, seed=trial)
        above, below = above + (interval.low > 0.1), below + (interval.high < 0.1)
    assert max(above, below) / 400 <= 0.08
    assert min(above, below) / 400 >= 0.02


@pytest.mark.usefixtures("fewer_resamples")
def test_a_ratio_as_large_as_the_limit_passes_one_time_in_twenty() -> None:
    generator = np.random.default_rng(0)
    passed = 0
    for trial in range(400):
        reference = generator.gamma(2.0, size=40)
        candidate = 1.05 * reference * generator.gamma(50.0, 1 / 50, size=40)
        passed += statistics.paired_mean_ratio(candidate, reference, seed=trial).high < 1.05
    assert passed / 400 <= 0.085


def test_means_agree_with_the_normal_theory_where_it_holds() -> None:
    values = np.random.default_rng(3).normal(2.0, 1.0, size=2000)
    error = 1.645 * values.std() / math.sqrt(2000)
    interval = statistics.mean(values)
    assert interval.low == pytest.approx(values.mean() - error, abs=0.003)
    assert interval.high == pytest.approx(values.mean() + error, abs=0.003)


def test_equal_values_have_equal_bounds() -> None:
    same = np.full(100, 0.1)
    assert statistics.mean(same) == Interval(0.1, 0.1)
    assert statistics.paired_mean_difference(same, same) == Interval(0.0, 0.0)
    assert statistics.paired_mean_ratio(same, same) == Interval(1.0, 1.0)
    assert statistics.paired_time_ratio(same, same) == Interval(1.0, 1.0)
    assert statistics.median(same) == Interval(0.1, 0.1)


def test_pairs_tell_more_than_their_halves() -> None:
    generator = np.random.default_rng(0)
    reference = generator.gamma(1.0, size=500)
    candidate = reference * 1.02
    ratio = statistics.paired_mean_ratio(candidate, reference)
    assert ratio.low == pytest.approx(1.02)
    assert ratio.high == pytest.approx(1.02)
    paired = statistics.paired_mean_difference(candidate, reference)
    assert paired.high - paired.low < (statistics.mean(candidate).high - statistics.mean(candidate).low) / 10


@pytest.mark.parametrize("n", [0, 1, 2, 4])
def test_too_few_examples_say_nothing(n: int) -> None:
    values = np.arange(1.0, n + 1)
    assert statistics.mean(values) == UNBOUNDED
    assert statistics.median(values) == UNBOUNDED
    assert statistics.paired_mean_difference(values, values) == UNBOUNDED
    assert statistics.paired_mean_ratio(values, values) == UNBOUNDED
    assert statistics.resampled(lambda rows: float(rows.mean()), n) == UNBOUNDED
    assert statistics.paired_time_ratio(values, values) == Interval(0.0, math.inf)
    assert statistics.noise(values, values) == math.inf


@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
def test_a_value_that_is_no_number_says_nothing(bad: float) -> None:
    values, spoilt = np.ones(50), np.ones(50)
    spoilt[7] = bad
    assert statistics.mean(spoilt) == UNBOUNDED
    assert statistics.median(spoilt) == UNBOUNDED
    for pair in [(values, spoilt), (spoilt, values), (spoilt, spoilt)]:
        assert statistics.paired_mean_difference(*pair) == UNBOUNDED
        assert statistics.paired_mean_ratio(*pair) == UNBOUNDED
        assert statistics.paired_time_ratio(*pair) == Interval(0.0, math.inf)


def test_a_ratio_without_a_denominator_says_nothing() -> None:
    values = np.arange(1.0, 21)
    assert statistics.paired_mean_ratio(values, np.zeros(20)) == UNBOUNDED
    around_zero = np.where(np.arange(20) % 2, 1.0, -0.9)
    assert statistics.paired_mean_ratio(values, around_zero) == UNBOUNDED


def test_a_ratio_of_negative_means_is_that_of_their_sizes() -> None:
    generator = np.random.default_rng(1)
    candidate, reference = generator.gamma(3.0, size=50), generator.gamma(3.0, size=50)
    positive = statistics.paired_mean_ratio(candidate, reference)
    negative = statistics.paired_mean_ratio(-candidate, -reference)
    assert negative == positive
    assert 0 < positive.low < candidate.mean() / reference.mean() < positive.high


def test_a_hundred_thousand_examples_fit_in_little_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(statistics, "RESAMPLES", 100)
    values = np.random.default_rng(0).normal(size=100_000)
    tracemalloc.start()
    statistics.mean(values)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 30e6


# Any statistic


def test_an_f1_difference_is_bounded_by_resampling() -> None:
    generator = np.random.default_rng(5)
    labels = generator.random(400) < 0.3
    reference = labels ^ (generator.random(400) < 0.1)
    candidate = reference ^ (generator.random(400) < 0.02)

    def f1(predicted: np.ndarray, rows: np.ndarray) -> float:
        hits = np.sum(predicted[rows] & labels[rows])
        return float(2 * hits / (np.sum(predicted[rows]) + np.sum(labels[rows])))

    def drop(rows: np.ndarray) -> float:
        return f1(candidate, rows) - f1(reference, rows)

    interval = statistics.resampled(drop, 400, resamples=2000)
    assert interval.low < drop(np.arange(400)) < interval.high
    assert interval.high - interval.low < 0.1


def test_a_mean_by_resampling_is_close_to_the_mean() -> None:
    values = np.random.default_rng(2).normal(size=200)
    by_hand = statistics.resampled(lambda rows: float(values[rows].mean()), 200)
    mean = statistics.mean(values)
    assert by_hand.low == pytest.approx(mean.low, abs=0.02)
    assert by_hand.high == pytest.approx(mean.high, abs=0.02)


def test_a_statistic_that_is_nan_says_nothing() -> None:
    assert statistics.resampled(lambda rows: math.nan, 50, resamples=200) == UNBOUNDED


def test_few_nans_widen_and_many_unbound() -> None:
    values = np.random.default_rng(0).normal(size=30)

    def spoilt(share: float) -> Interval:
        def statistic(rows: np.ndarray) -> float:
            whole = np.array_equal(rows, np.arange(30))
            return math.nan if not whole and coins.random() < share else float(values[rows].mean())

        coins = np.random.default_rng(1)
        return statistics.resampled(statistic, 30, resamples=2000)

    clean, few, many = spoilt(0.0), spoilt(0.02), spoilt(0.1)
    assert -math.inf < few.low < clean.low < clean.high < few.high < math.inf
    assert many == UNBOUNDED


def test_resamples_without_the_rare_class_never_pass() -> None:
    """With one positive in 20, a third of the resamples has no recall."""
    labels = np.arange(20) == 3

    def recall(rows: np.ndarray) -> float:
        positives = np.sum(labels[rows])
        return 1.0 if positives else math.nan

    assert statistics.resampled(recall, 20, resamples=1000) == UNBOUNDED


# Times


def runs(generator: np.random.Generator, pairs: int, ratio: float, drift: float = 0.01) -> tuple[np.ndarray, ...]:
    """Seconds of a candidate and a reference in random order within each pair, on a machine that slows down."""
    seconds = 0.01 * (1 + drift) ** np.arange(2 * pairs) * generator.lognormal(0.0, 0.02, size=2 * pairs)
    first = generator.integers(2, size=pairs)
    order = 2 * np.arange(pairs)
    return seconds[order + first] * ratio, seconds[order + 1 - first]


@pytest.mark.usefixtures("fewer_resamples")
@pytest.mark.parametrize("pairs", [10, 40])
def test_a_drifting_machine_raises_no_alarm_and_hides_no_slowdown(pairs: int) -> None:
    generator = np.random.default_rng(pairs)
    alarms = caught = 0
    for trial in range(200):
        alarms += statistics.paired_time_ratio(*runs(generator, pairs, 1.0), seed=trial).low > 1.05
        caught += statistics.paired_time_ratio(*runs(generator, pairs, 1.1), seed=trial).low > 1.05
    assert alarms == 0
    assert caught >= 190


@pytest.mark.usefixtures("fewer_resamples")
def test_a_time_as_long_as_the_limit_passes_one_time_in_twenty() -> None:
    generator = np.random.default_rng(0)
    passed = sum(statistics.paired_time_ratio(*runs(generator, 25, 0.5), seed=trial).high < 0.5 for trial in range(400))
    assert passed / 400 <= 0.08


def test_swapped_times_have_the_inverse_ratio() -> None:
    candidate, reference = runs(np.random.default_rng(4), 31, 0.4)
    ratio, inverse = (
        statistics.paired_time_ratio(candidate, reference),
        statistics.paired_time_ratio(reference, candidate),
    )
    assert ratio.low < 0.4 < ratio.high
    assert inverse.low == pytest.approx(1 / ratio.high, rel=5e-3)


def test_a_time_of_zero_says_nothing() -> None:
    assert statistics.paired_time_ratio(np.zeros(20), np.ones(20)) == Interval(0.0, math.inf)


def test_noise_is_one_for_the_same_runs_and_symmetric() -> None:
    first, second = runs(np.random.default_rng(2), 30, 1.0)
    assert statistics.noise(first, first) == 1.0
    assert 1.0 < statistics.noise(first, second) < 1.05
    assert statistics.noise(first, second) == pytest.approx(statistics.noise(second, first), rel=5e-3)
    assert statistics.noise(first * 1.3, second) == pytest.approx(1.3, rel=0.05)


def test_a_median_ignores_a_hiccup() -> None:
    seconds = np.random.default_rng(0).normal(1.0, 0.01, size=41)
    seconds[5] = 100.0
    interval = statistics.median(seconds)
    assert 0.98 < interval.low <= np.median(seconds) <= interval.high < 1.02


# Everything


def test_the_same_seed_gives_the_same_bounds() -> None:
    first, second = np.random.default_rng(0).gamma(2.0, size=(2, 40))
    for bound in (statistics.paired_mean_difference, statistics.paired_mean_ratio, statistics.paired_time_ratio):
        assert bound(first, second, seed=3) == bound(first, second, seed=3)
        assert bound(first, second, seed=3) != bound(first, second, seed=4) or bound is statistics.paired_time_ratio
    assert statistics.resampled(lambda rows: float(first[rows].max()), 40) == statistics.resampled(
        lambda rows: float(first[rows].max()), 40
    )


def test_more_confidence_means_wider_bounds() -> None:
    first, second = np.random.default_rng(0).gamma(2.0, size=(2, 40))
    for bound in (statistics.paired_mean_difference, statistics.paired_mean_ratio, statistics.paired_time_ratio):
        usual, strict = bound(first, second), bound(first, second, confidence=0.99)
        assert strict.low <= usual.low < usual.high <= strict.high
    assert difference(3, 9, 100, 0.99).low < difference(3, 9, 100).low


def test_scipy_is_not_imported_until_asked_for() -> None:
    script = "import sys, compressit.report.statistics; sys.exit('scipy' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", script], check=False).returncode == 0
