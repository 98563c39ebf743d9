"""Gates -> verdicts of one candidate."""

from __future__ import annotations

import math
from typing import Any

from compressit import metrics
from compressit.compare.baseline import Baseline
from compressit.metrics import Evidence, Kind, MetricConfig
from compressit.recipe import Target
from compressit.report import Outcome, Verdict, bounds, statistics, verdicts
from compressit.report.statistics import Interval

BASE = "the base"
NOT_TIMED = "timings of another session say nothing about this one: compare the runs themselves"


def in_pairs(gate: Target, config: MetricConfig, name: str, candidate: Evidence, base: Evidence) -> Verdict:
    """Judge a gate where both were measured on the same examples and timed side by side."""
    if metrics.load(config.metric).KIND is Kind.TIMED and not set(config.batch_sizes()) <= candidate.timings.keys():
        return unknown(gate, config, name, "the artifacts were not timed side by side")
    return verdicts.judge(gate, config, name, candidate, base, beside=BASE)


def against(gate: Target, config: MetricConfig, name: str, candidate: Evidence, base: Baseline) -> Verdict:
    """Judge a gate against the figures of a baseline file; none on a timing, which has no bounds there."""
    bound, limit, _ = verdicts.asked(gate, config)
    if bound in ("min", "max"):
        return verdicts.judge(gate, config, name, candidate, candidate)
    value, around = (difference if bound == "max_drop" else ratio)(config, candidate, base)
    found = verdicts.verdict(gate, config, name, value, around, BASE)
    right = base.right(config.key)
    if found.outcome is Outcome.INCONCLUSIVE and bound == "max_drop" and right is not None:
        needed = verdicts.needed(bound, limit, scores(config, candidate), right.astype(float))
        return found.model_copy(update={"needed": needed})
    return found


def difference(config: MetricConfig, candidate: Evidence, base: Baseline) -> tuple[float, Interval]:
    """Bound candidate - baseline: in pairs where the file says which answers were right."""
    value, own = bounds.value(config, candidate)
    before = base.figures[config.key].value
    if before is None:
        return math.nan, statistics.UNBOUNDED
    bound = _in_pairs(config, candidate, base)
    return value - before, bound or statistics.unpaired_difference(value, own, before, base.interval(config.key))


def ratio(config: MetricConfig, candidate: Evidence, base: Baseline) -> tuple[float, Interval]:
    """Bound candidate / baseline, likewise."""
    value, own = bounds.value(config, candidate)
    before = base.figures[config.key].value
    if not before:
        return math.nan, statistics.UNBOUNDED
    bound = _in_pairs(config, candidate, base)
    if bound is not None:
        return value / before, Interval(1 + bound.low / before, 1 + bound.high / before)
    return value / before, statistics.unpaired_ratio(value, own, before, base.interval(config.key))


def _in_pairs(config: MetricConfig, candidate: Evidence, base: Baseline) -> Interval | None:
    right = base.right(config.key)
    if right is None:
        return None
    after = scores(config, candidate)
    paired = len(after) == len(right) and bounds.binary(after)
    return statistics.paired_difference(after > 0, right) if paired else None


def unknown(gate: Target, config: MetricConfig, name: str, why: str) -> Verdict:
    """Say that a gate can't be judged."""
    bound, limit, unit = verdicts.asked(gate, config)
    return Verdict(
        metric=config.key,
        artifact=name,
        bound=bound,
        limit=abs(limit),
        unit=unit,
        value=None,
        low=None,
        high=None,
        outcome=Outcome.INCONCLUSIVE,
        why=why,
    )


def scores(config: MetricConfig, evidence: Evidence) -> Any:
    """Give a mean's score of each example: (examples,)."""
    module: Any = metrics.load(config.metric)
    return module.per_example(evidence, config)
