"""Targets -> verdicts. A bound decides, never the point: one that excludes the limit passes, its opposite fails."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from compressit import metrics
from compressit.metrics import Evidence, Kind, MetricConfig
from compressit.recipe import Target
from compressit.recipe.quantities import parse, show
from compressit.report import Outcome, Verdict, bounds, finite, statistics
from compressit.report.statistics import Interval

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

ORIGINAL = "the original"
WORDS = {
    "min": "at least",
    "max": "at most",
    "min_ratio": "at least",
    "max_ratio": "at most",
    "max_drop": "a drop of at most",
}


def judge(
    target: Target,
    config: MetricConfig,
    name: str,
    artifact: Evidence,
    original: Evidence,
    seed: int = 0,
    beside: str = ORIGINAL,
) -> Verdict:
    """Judge one target on one artifact.

    Args:
        target: A bound on a metric.
        config: That metric's fields.
        name: Of the artifact.
        artifact: What was measured of it.
        original: What was measured of the original, on the same runtime.
        seed: Of the resampling.
        beside: What the original is called, where it is something else.
    """
    bound, limit, _ = asked(target, config)
    if bound in ("min", "max"):
        value, interval = bounds.value(config, artifact, seed)
    elif bound == "max_drop":
        value, interval = bounds.difference(config, artifact, original, seed)
    else:
        value, interval = bounds.ratio(config, artifact, original, seed)
    found = verdict(target, config, name, value, interval, beside)
    if found.outcome is not Outcome.INCONCLUSIVE:
        return found
    return found.model_copy(update={"needed": _needed(bound, limit, config, artifact, original)})


def asked(target: Target, config: MetricConfig) -> tuple[str, float, str]:
    """Read a target's bound: its name, its value in base units, negative for a drop, and their unit."""
    bound, written = target.bound
    unit = metrics.load(config.metric).UNIT
    if bound in ("min", "max"):
        return bound, parse(written, unit), unit
    return (bound, -float(written), unit) if bound == "max_drop" else (bound, float(written), "ratio")


def verdict(
    target: Target, config: MetricConfig, name: str, value: float, interval: Interval, beside: str = ORIGINAL
) -> Verdict:
    """Judge what was measured of the quantity that a target's bound is on.

    Args:
        target: A bound on a metric.
        config: That metric's fields.
        name: Of the artifact.
        value: Of the metric (min, max), of its difference (max_drop) or of its ratio to what it is held against.
        interval: One-sided bounds of it.
        beside: What it is held against.
    """
    bound, limit, unit = asked(target, config)
    outcome = decide(value, interval, limit, least=bound in ("min", "min_ratio", "max_drop"))
    return Verdict(
        metric=config.key,
        artifact=name,
        bound=bound,
        limit=abs(limit) if bound == "max_drop" else limit,
        unit=unit,
        value=finite(value),
        low=finite(interval.low),
        high=finite(interval.high),
        outcome=outcome,
        why=_why(bound, limit, unit, value, interval, outcome, beside),
    )


def decide(value: float, interval: Interval, limit: float, *, least: bool) -> Outcome:
    """Compare bounds with a limit; NaN never passes.

    Args:
        value: The point, looked at only for being a number.
        interval: One-sided bounds of it.
        limit: What it must be at least, or at most.
        least: Which of the two.
    """
    if math.isnan(value):
        return Outcome.FAIL
    if interval.low >= limit if least else interval.high <= limit:
        return Outcome.PASS
    if interval.high < limit if least else interval.low > limit:
        return Outcome.FAIL
    return Outcome.INCONCLUSIVE


def dropped(interval: Interval, outcome: Outcome) -> str:
    """Say of a drop what an outcome rests on: what is sure where it fails, else what can't be ruled out.

    Args:
        interval: One-sided bounds of the difference, negative for a drop.
        outcome: Of the verdict on it.
    """
    if outcome is Outcome.FAIL:
        return f"95% sure of a drop of at least {-interval.high:.4f}"
    return f"a drop of {-interval.low:.4f} can't be ruled out" if interval.low < 0 else "95% sure of no drop"


def _why(bound: str, limit: float, unit: str, value: float, interval: Interval, outcome: Outcome, beside: str) -> str:
    if math.isnan(value):
        return "it is not a number"
    if bound == "max_drop":
        return f"{value:+.4f} against {beside}; {dropped(interval, outcome)}, {-limit:.4f} is allowed"
    measured, allowed = _show(value, unit), f"{WORDS[bound]} {_show(limit, unit)}"
    if interval.low == interval.high:
        return f"{measured}, {allowed}"
    if outcome is Outcome.FAIL:
        least = bound in ("min", "min_ratio")
        sure = f"at most {_show(interval.high, unit)}" if least else f"at least {_show(interval.low, unit)}"
        return f"{measured}, 95% sure of {sure}; {allowed} is asked"
    return f"{measured}, 95% sure between {_show(interval.low, unit)} and {_show(interval.high, unit)}; {allowed}"


def _show(value: float, unit: str) -> str:
    return f"{value:.3g}x" if unit == "ratio" else show(value, unit)


def needed(
    bound: str, limit: float, after: NDArray[np.float64], before: NDArray[np.float64], examples: int | None = None
) -> int | None:
    """Count the examples that would decide; only shares have a formula.

    Args:
        bound: Of the target.
        limit: Its value, negative for a drop.
        after: Score of each example, (N,).
        before: What it is held against, (N,).
        examples: How many examples the scores are of, where one of them is a group's.
    """
    if not (bounds.binary(after) and bounds.binary(before)):
        return None
    found = None
    if bound == "max_drop":
        discordance, difference = float((after != before).mean()), float(after.mean() - before.mean())
        found = statistics.examples_needed(discordance, -limit, difference=difference)
    elif bound in ("min", "max") and 0 < limit < 1:
        found = statistics.examples_needed_for_proportion(float(after.mean()), limit)
    return None if found is None else math.ceil(found * (examples or len(after)) / len(after))


def _needed(bound: str, limit: float, config: MetricConfig, artifact: Evidence, original: Evidence) -> int | None:
    module = metrics.load(config.metric)
    if bounds.kind_of(config, artifact) is not Kind.MEAN:
        return None
    after, before = module.per_example(artifact, config), module.per_example(original, config)
    return needed(bound, limit, after, before, len(artifact.predictions))
