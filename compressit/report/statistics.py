"""How sure one can be of a figure: bounds for shares, differences, means and timings. Arrays in, bounds out.

Each `Interval` holds two one-sided bounds, so a test against one of them errs with probability 1 - confidence. What
can't be bounded (no examples, too few, a NaN) gets the widest interval there is, which neither passes nor fails.

The bootstraps draw whole examples (or pairs), seeded, a few resamples at a time. Their levels are widened for small
samples (the expanded percentile interval of Hesterberg 2015, arXiv:1411.5279) and their ranks rounded outwards.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from compressit.errors import DataError

CONFIDENCE = 0.95
POWER = 0.8
RESAMPLES = 10_000
CELLS = 1 << 17  # indices drawn at a time: a few MB, whatever the number of examples

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Interval:
    """Two one-sided bounds: the truth is above `low` with the confidence asked for, and below `high` with the same."""

    low: float
    high: float


UNBOUNDED = Interval(-math.inf, math.inf)


def between(low: float | None, high: float | None) -> Interval:
    """Read bounds back from a file, where None stands for none."""
    return Interval(-math.inf if low is None else low, math.inf if high is None else high)


class Flips(NamedTuple):
    """How many right answers one model lost and gained against another, and the exact McNemar p-value of that."""

    lost: int
    gained: int
    p_value: float


# Shares


def proportion(successes: int, n: int, *, confidence: float = CONFIDENCE) -> Interval:
    """Bound a share from `successes` out of `n` by the score test (Wilson 1927); 0 to 1 without examples."""
    if not 0 <= successes <= n:
        raise ValueError(f"{successes} out of {n} is not a share")
    if n == 0:
        return Interval(0.0, 1.0)
    z = _z(confidence)
    centre = (successes + z * z / 2) / (n + z * z)
    half = z / (n + z * z) * math.sqrt(successes * (n - successes) / n + z * z / 4)
    return Interval(max(0.0, centre - half) if successes else 0.0, min(1.0, centre + half) if successes < n else 1.0)


def paired_difference(
    candidate_correct: ArrayLike, reference_correct: ArrayLike, *, confidence: float = CONFIDENCE
) -> Interval:
    """Bound the difference of two shares, candidate - reference, from (N,) booleans each on the same examples.

    Tango 1998 (Statistics in Medicine 17, 891-908): the differences that the score test does not reject. It holds for a
    handful of examples and where the models never disagree (± z²/(N + z²) then); -1 to 1 without examples.
    """
    gained, lost, n = _discordant(candidate_correct, reference_correct)
    if n == 0:
        return Interval(-1.0, 1.0)
    from scipy.optimize import brentq

    z = _z(confidence)
    estimate, critical = (gained - lost) / n, z / math.hypot(1.0, z)

    def root(end: float) -> float:
        return float(brentq(lambda at: -end * _score(gained, lost, n, at) - critical, end, estimate, xtol=1e-12))

    return Interval(-1.0 if lost == n else root(-1.0), 1.0 if gained == n else root(1.0))


def _score(gained: int, lost: int, n: int, difference: float) -> float:
    """Score a difference: Tango's T as T / √(1 + T²), which stays finite where the variance is 0."""
    b = (2 * n - gained + lost) * difference - gained - lost
    c = -lost * difference * (1 - difference)
    share_lost = (math.sqrt(max(0.0, b * b - 8 * n * c)) - b) / (4 * n)  # the likeliest, given the difference
    variance = n * max(0.0, 2 * share_lost + difference * (1 - difference))
    distance = gained - lost - n * difference
    return distance / math.sqrt(variance + distance * distance) if distance else 0.0


def mcnemar(candidate_correct: ArrayLike, reference_correct: ArrayLike) -> Flips:
    """Count answers lost (right to wrong) and gained, from (N,) booleans each, with McNemar's exact two-sided p."""
    gained, lost, _ = _discordant(candidate_correct, reference_correct)
    if gained + lost == 0:
        return Flips(0, 0, 1.0)
    from scipy.stats import binomtest

    return Flips(lost, gained, float(binomtest(lost, lost + gained).pvalue))


# Means


def mean(values: ArrayLike, *, confidence: float = CONFIDENCE, seed: int = 0) -> Interval:
    """Bound the mean of (N,) values, one an example, by the BCa bootstrap (Efron 1987).

    Unbounded for fewer than 5 examples (at 95%) and where a value is NaN or infinite. Equal values give an interval of
    no width, which is too sure for shares: those belong to `proportion` and `paired_difference`.
    """
    v_N = np.asarray(values, dtype=np.float64)
    if _says_nothing(v_N, confidence):
        return UNBOUNDED
    if (v_N == v_N[0]).all():
        return Interval(float(v_N[0]), float(v_N[0]))
    estimate = float(v_N.mean())
    return _bca(estimate, _mean_draws(v_N[None], seed)[0], v_N - estimate, confidence)


def paired_mean_difference(
    candidate: ArrayLike, reference: ArrayLike, *, confidence: float = CONFIDENCE, seed: int = 0
) -> Interval:
    """Bound the mean of candidate - reference, (N,) values each on the same examples, as `mean` does."""
    c_N, r_N = _pairs(candidate, reference, np.float64)
    if _says_nothing(c_N, confidence) or _says_nothing(r_N, confidence):
        return UNBOUNDED
    return mean(c_N - r_N, confidence=confidence, seed=seed)


def paired_mean_ratio(
    candidate: ArrayLike, reference: ArrayLike, *, confidence: float = CONFIDENCE, seed: int = 0
) -> Interval:
    """Bound mean(candidate) / mean(reference), (N,) values each on the same examples, by the BCa bootstrap.

    A resample whose reference mean is 0 or of the other sign has no ratio and counts as a NaN does in `resampled`.
    Unbounded where `mean` is, and where the reference's mean is 0.
    """
    c_N, r_N = _pairs(candidate, reference, np.float64)
    if _says_nothing(c_N, confidence) or _says_nothing(r_N, confidence) or r_N.mean() == 0:
        return UNBOUNDED
    sign = float(np.sign(r_N.mean()))
    ratio = float(c_N.mean() / r_N.mean())
    c_B, r_B = _mean_draws(np.stack([c_N, r_N]) * sign, seed)
    draws = np.divide(c_B, r_B, out=np.full_like(c_B, np.nan), where=r_B > 0)
    return _bca(ratio, draws, (c_N - ratio * r_N) * sign, confidence)


# Two figures that know nothing of each other, such as the same metric of two samples


def unpaired_difference(
    candidate: float, candidate_bounds: Interval, reference: float, reference_bounds: Interval
) -> Interval:
    """Bound candidate - reference from each one's own bounds, where their errors are independent.

    MOVER (Zou & Donner 2008, Statistics in Medicine 27, 1693-1702), of which Newcombe's method 10 (1998, Statistics in
    Medicine 17, 873-890) is the case of two shares by the score test. The result has the confidence that both had;
    unbounded where one of the figures is NaN.
    """
    if math.isnan(candidate) or math.isnan(reference):
        return UNBOUNDED
    below = math.hypot(candidate - candidate_bounds.low, reference_bounds.high - reference)
    above = math.hypot(candidate_bounds.high - candidate, reference - reference_bounds.low)
    return Interval(candidate - reference - below, candidate - reference + above)


def unpaired_ratio(
    candidate: float, candidate_bounds: Interval, reference: float, reference_bounds: Interval
) -> Interval:
    """Bound candidate / reference in the same way, on logarithms; from 0 to infinity where one is not above 0."""
    if not (candidate > 0 and reference > 0):
        return Interval(0.0, math.inf)
    log = unpaired_difference(
        math.log(candidate), _logarithm(candidate_bounds), math.log(reference), _logarithm(reference_bounds)
    )
    return Interval(math.exp(log.low), math.exp(log.high))


def _logarithm(bounds: Interval) -> Interval:
    low, high = (math.log(bound) if bound > 0 else -math.inf for bound in (bounds.low, bounds.high))
    return Interval(low, high)


# Any statistic


def resampled(
    statistic: Callable[[NDArray[np.int64]], float],
    n: int,
    *,
    confidence: float = CONFIDENCE,
    seed: int = 0,
    resamples: int = RESAMPLES,
) -> Interval:
    """Bound any statistic of n examples, such as a difference of F1, by the percentile bootstrap.

    `statistic` takes (n,) indices of examples, which repeat, and closes over both models' predictions. A resample where
    it is NaN counts as -inf for the low bound and as +inf for the high one: a few widen the interval, and more than
    1 - confidence of them leave it unbounded. Unbounded too for fewer than 5 examples (at 95%) and where the statistic
    of all examples is NaN. A statistic that no resample changes gives an interval of no width.
    """
    if _too_few(n, confidence) or math.isnan(statistic(np.arange(n))):
        return UNBOUNDED
    draws = [statistic(rows_N) for rows_BN in _indices(n, seed, resamples) for rows_N in rows_BN]
    return _bounds(np.asarray(draws, dtype=np.float64), n, confidence)


# Times


def median(values: ArrayLike, *, confidence: float = CONFIDENCE, seed: int = 0) -> Interval:
    """Bound the median of (N,) values, such as seconds, by the bootstrap; unbounded where `mean` is."""
    v_N = np.asarray(values, dtype=np.float64)
    if _says_nothing(v_N, confidence):
        return UNBOUNDED
    draws = np.concatenate([np.median(v_N[rows_BN], axis=-1) for rows_BN in _indices(v_N.size, seed, RESAMPLES)])
    return _bounds(draws, v_N.size, confidence)


def paired_time_ratio(
    candidate: ArrayLike, reference: ArrayLike, *, confidence: float = CONFIDENCE, seed: int = 0
) -> Interval:
    """Bound candidate / reference, (N,) seconds each, by the bootstrap of the median log ratio.

    Drift cancels where run k of both came one right after the other, in random order. From 0 to infinity for fewer than
    5 pairs (at 95%) and where a time is not a positive number.
    """
    c_N, r_N = _pairs(candidate, reference, np.float64)
    if not (np.isfinite(c_N) & np.isfinite(r_N) & (c_N > 0) & (r_N > 0)).all():
        return Interval(0.0, math.inf)
    log = median(np.log(c_N) - np.log(r_N), confidence=confidence, seed=seed)
    return Interval(math.exp(log.low), math.exp(log.high))


def noise(first: ArrayLike, second: ArrayLike, *, confidence: float = CONFIDENCE, seed: int = 0) -> float:
    """Say by what factor, 1 or more, two interleaved timings of the same thing may differ, (N,) seconds each.

    A high bound on a time is multiplied by it before it is judged, a low one divided; infinite for too few runs.
    """
    ratio = paired_time_ratio(first, second, confidence=confidence, seed=seed)
    return max(1.0, ratio.high, 1 / ratio.low if ratio.low > 0 else math.inf)


# How many examples would settle it


def examples_needed(
    discordance: float, margin: float, *, difference: float = 0.0, confidence: float = CONFIDENCE, power: float = POWER
) -> int | None:
    """Count the examples that would settle whether a paired difference is above -margin; None if it sits on it.

    (z_confidence + z_power)² discordance / distance², 6.18 discordance / distance² as it stands, and never fewer than
    Tango's bound asks for where no pair is discordant. `discordance` is the share of examples that only one model has
    right, `difference` the estimate of candidate - reference, the distance that from it to -margin.
    """
    distance = abs(difference + margin)
    if not distance >= 1e-12:  # NaN comes here too
        return None
    z = _z(confidence)
    return math.ceil(max((z + _z(power)) ** 2 * discordance / distance**2, z * z * (1 - distance) / distance, 1))


def examples_needed_for_proportion(
    share: float, threshold: float, *, confidence: float = CONFIDENCE, power: float = POWER
) -> int | None:
    """Count the examples that would settle on which side of `threshold` a share lies; None if it sits on it."""
    distance = abs(share - threshold)
    if not distance >= 1e-12:  # NaN comes here too
        return None
    spread = _z(confidence) * math.sqrt(threshold * (1 - threshold)) + _z(power) * math.sqrt(share * (1 - share))
    return math.ceil(max((spread / distance) ** 2, 1))


def examples_needed_unpaired(
    candidate: float,
    candidate_bounds: Interval,
    n: int,
    reference: float,
    reference_bounds: Interval,
    margin: float,
    *,
    confidence: float = CONFIDENCE,
    power: float = POWER,
) -> int | None:
    """Count the candidate's examples that would settle whether an unpaired difference is above -margin.

    Its bound shrinks with the root of their number, n by now; the reference's stays as it is. None where the difference
    sits on the margin, or where the reference's own error is so large that no number would do.
    """
    difference = candidate - reference
    above = difference > -margin
    own = candidate - candidate_bounds.low if above else candidate_bounds.high - candidate
    other = reference_bounds.high - reference if above else reference - reference_bounds.low
    z = _z(confidence)
    left = (abs(difference + margin) * z / (z + _z(power))) ** 2 - other**2
    if not (left > 0 and math.isfinite(own)):  # NaN comes here too
        return None
    return math.ceil(max(n * own**2 / left, 1))


# The bootstrap: N examples, B resamples, K columns


def _indices(n: int, seed: int, resamples: int) -> Iterator[NDArray[np.int64]]:
    generator = np.random.default_rng(seed)
    rows = max(1, CELLS // n)
    for start in range(0, resamples, rows):
        yield generator.integers(n, size=(min(rows, resamples - start), n))


def _mean_draws(columns_KN: Floats, seed: int) -> Floats:
    chunks = _indices(columns_KN.shape[1], seed, RESAMPLES)
    return np.concatenate([np.stack([v_N[rows_BN].mean(-1) for v_N in columns_KN]) for rows_BN in chunks], axis=1)


def _bca(estimate: float, draws: Floats, influence_N: Floats, confidence: float) -> Interval:
    """Correct percentile bounds for bias, and for skewness by how much each example pulls the estimate."""
    from scipy.special import ndtri

    below = (np.sum(draws < estimate) + np.sum(draws == estimate) / 2) / max(1, np.sum(~np.isnan(draws)))
    bias = float(ndtri(np.clip(below, 0.5 / draws.size, 1 - 0.5 / draws.size)))
    pull_N = influence_N / (np.abs(influence_N).max() or 1.0)
    acceleration = float((pull_N**3).sum() / (6 * ((pull_N**2).sum() or 1.0) ** 1.5))
    return _bounds(draws, influence_N.size, confidence, bias, acceleration)


def _bounds(draws: Floats, n: int, confidence: float, bias: float = 0.0, acceleration: float = 0.0) -> Interval:
    """Read both bounds off the draws; infinite where their ranks lie beyond, NaN on the wrong side of either."""
    if np.isnan(draws).mean() > 1 - confidence:
        return UNBOUNDED
    from scipy.special import ndtr, stdtrit

    wide = math.sqrt(n / (n - 1)) * float(stdtrit(n - 1, confidence))

    def rank(z: float) -> float:
        shifted = bias + z
        stretch = 1 - acceleration * shifted
        level = float(ndtr(bias + shifted / stretch)) if stretch > 0 else float(shifted > 0)
        return level * (draws.size + 1)

    low, high = math.floor(rank(-wide)), math.ceil(rank(wide))
    lows, highs = (np.sort(np.where(np.isnan(draws), worst, draws)) for worst in (-math.inf, math.inf))
    return Interval(
        float(lows[min(low, draws.size) - 1]) if low >= 1 else -math.inf,
        float(highs[max(high, 1) - 1]) if high <= draws.size else math.inf,
    )


def _z(confidence: float) -> float:
    from scipy.special import ndtri

    return float(ndtri(confidence))


# What goes in


def _too_few(n: int, confidence: float) -> bool:
    """Tell whether n examples could all lie on one side of the truth by chance alone."""
    return bool(0.5**n > 1 - confidence)


def _says_nothing(values_N: Floats, confidence: float) -> bool:
    return _too_few(values_N.size, confidence) or not bool(np.isfinite(values_N).all())


def _pairs(candidate: ArrayLike, reference: ArrayLike, dtype: Any = None) -> tuple[NDArray[Any], NDArray[Any]]:
    c_N, r_N = np.asarray(candidate, dtype=dtype), np.asarray(reference, dtype=dtype)
    if c_N.ndim != 1 or c_N.shape != r_N.shape:
        raise DataError(
            f"figures of shape {c_N.shape} can't be paired with figures of shape {r_N.shape}",
            hint="measure both models on the same examples, in the same order",
        )
    return c_N, r_N


def _discordant(candidate_correct: ArrayLike, reference_correct: ArrayLike) -> tuple[int, int, int]:
    """Count the examples that only the candidate has right, those that only the reference has, and all of them."""
    c_N, r_N = _pairs(candidate_correct, reference_correct)
    if not c_N.size:
        return 0, 0, 0
    if c_N.dtype != np.bool_ or r_N.dtype != np.bool_:
        raise TypeError(f"right answers are booleans, not {c_N.dtype} and {r_N.dtype}")
    return int((c_N & ~r_N).sum()), int((r_N & ~c_N).sum()), c_N.size
