"""A metric's value, ratio to the original and difference from it, each with its bounds, by the kind of the metric."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from compressit import metrics
from compressit.metrics import Evidence, Kind, MetricConfig
from compressit.report import statistics
from compressit.report.statistics import Interval

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

RESAMPLES = 2_000
Bounded = tuple[float, Interval]


def kind_of(config: MetricConfig, evidence: Evidence) -> Kind:
    """Tell how a metric is bounded here: a mean over examples of unlike weights is a figure of the whole split."""
    module: Any = metrics.load(config.metric)
    kind: Kind = module.KIND
    if kind is Kind.MEAN and hasattr(module, "weights") and bool((module.weights(evidence, config) != 1).any()):
        return Kind.CORPUS
    return kind


def value(config: MetricConfig, artifact: Evidence, seed: int = 0) -> Bounded:
    """Bound the metric itself."""
    module: Any = metrics.load(config.metric)
    found, kind = metrics.value(artifact, config), kind_of(config, artifact)
    if kind is Kind.MEAN:
        scores = module.per_example(artifact, config)
        if binary(scores):
            return found, statistics.proportion(int(scores.sum()), len(scores))
        return found, statistics.mean(scores, seed=seed)
    if kind is Kind.CORPUS:
        return found, _resampled(module, artifact, seed, _on_some(module, config, artifact))
    if kind is Kind.TIMED:
        timings = artifact.timings[config.batch_sizes()[0]]
        bound = statistics.median(module.per_run(timings.artifact, config), seed=seed)
        noise = statistics.noise(timings.baseline, timings.again, seed=seed)
        return found, Interval(max(bound.low, 0.0) / noise, bound.high * noise)
    return found, Interval(found, found)


def ratio(config: MetricConfig, artifact: Evidence, original: Evidence, seed: int = 0) -> Bounded:
    """Bound the metric as a multiple of the original's, on the same examples or in the same runs."""
    module: Any = metrics.load(config.metric)
    before, after = metrics.value(original, config), metrics.value(artifact, config)
    found, kind = after / before if before else float("nan"), kind_of(config, artifact)
    if kind is Kind.MEAN:
        after, bare = module.per_example(artifact, config), module.per_example(original, config)
        if binary(after) and binary(bare) and before:
            # A bootstrap of a few examples that all agree would be sure; the score bound is not.
            bound = statistics.paired_difference(after > 0, bare > 0)
            return found, Interval(1 + bound.low / before, 1 + bound.high / before)
        return found, statistics.paired_mean_ratio(after, bare, seed=seed)
    if kind is Kind.CORPUS:
        return found, _resampled(module, artifact, seed, _compare(module, config, artifact, original, _divide))
    if kind is Kind.TIMED:
        timings = artifact.timings[config.batch_sizes()[0]]
        bound = statistics.paired_time_ratio(timings.artifact, timings.baseline, seed=seed)
        noise = statistics.noise(timings.baseline, timings.again, seed=seed)
        slower, faster = bound.high * noise, bound.low / noise
        found = paired_median_ratio(timings.artifact, timings.baseline)
        if module.BETTER == "lower":
            return found, Interval(faster, slower)
        return 1 / found, Interval(1 / slower if slower else 0.0, 1 / faster if faster else float("inf"))
    return found, Interval(found, found)


def difference(config: MetricConfig, artifact: Evidence, original: Evidence, seed: int = 0) -> Bounded:
    """Bound how far the metric lies above the original's, on the same examples; not for timings, which have a ratio."""
    module: Any = metrics.load(config.metric)
    found, kind = metrics.value(artifact, config) - metrics.value(original, config), kind_of(config, artifact)
    if kind is Kind.MEAN:
        after, before = module.per_example(artifact, config), module.per_example(original, config)
        if binary(after) and binary(before):
            return found, statistics.paired_difference(after > 0, before > 0)
        return found, statistics.paired_mean_difference(after, before, seed=seed)
    if kind is Kind.CORPUS:
        return found, _resampled(module, artifact, seed, _compare(module, config, artifact, original, _subtract))
    return found, Interval(found, found)


def paired_median_ratio(after: NDArray[np.float64], before: NDArray[np.float64]) -> float:
    """Take the median of the ratios run by run."""
    import numpy as np

    return float(np.exp(np.median(np.log(after) - np.log(before))))


def _on_some(module: Any, config: MetricConfig, evidence: Evidence) -> Callable[[NDArray[np.int64]], float]:
    """Give what measures a metric on some of the examples, which may repeat."""
    if hasattr(module, "on_some"):
        found: Callable[[NDArray[np.int64]], float] = module.on_some(evidence, config)
        return found
    if hasattr(module, "sums"):
        sums = module.sums(evidence, config)
        return lambda rows: module.figure(sums[rows].sum(0), config)
    if hasattr(module, "weights"):
        scores, weights = module.per_example(evidence, config), module.weights(evidence, config)
        return lambda rows: _divide(scores[rows].sum(), weights[rows].sum())
    return lambda rows: module.measure(evidence.take(rows), config)


def _compare(
    module: Any, config: MetricConfig, artifact: Evidence, original: Evidence, how: Callable[[float, float], float]
) -> Callable[[NDArray[np.int64]], float]:
    after, before = _on_some(module, config, artifact), _on_some(module, config, original)
    return lambda rows: how(after(rows), before(rows))


def _resampled(module: Any, artifact: Evidence, seed: int, statistic: Callable[[NDArray[np.int64]], float]) -> Interval:
    count, groups = getattr(module, "RESAMPLES", RESAMPLES), artifact.predictions.together
    if groups is None:
        return statistics.resampled(statistic, len(artifact.predictions), seed=seed, resamples=count)
    rows_of = _members(groups)
    return statistics.resampled(
        lambda drawn: statistic(rows_of(drawn)), int(groups.max()) + 1, seed=seed, resamples=count
    )


def _members(groups: NDArray[np.int64]) -> Callable[[NDArray[np.int64]], NDArray[np.int64]]:
    """Give the function from groups, which may repeat, to their examples."""
    import numpy as np

    order, sizes = np.argsort(groups, kind="stable"), np.bincount(groups)
    first = np.cumsum(sizes) - sizes

    def rows(drawn: NDArray[np.int64]) -> NDArray[np.int64]:
        many = sizes[drawn]
        within = np.arange(many.sum()) - np.repeat(np.cumsum(many) - many, many)
        found: NDArray[np.int64] = order[np.repeat(first[drawn], many) + within]
        return found

    return rows


def binary(scores: NDArray[np.float64]) -> bool:
    """Tell whether all scores are 0 or 1."""
    return bool(((scores == 0) | (scores == 1)).all())


def _divide(above: float, below: float) -> float:
    return above / below if below else float("nan")


def _subtract(above: float, below: float) -> float:
    return above - below
