"""One metric of two artifacts, in pairs: how far apart they are, and how sure that is."""

from __future__ import annotations

import math
from typing import Any

from compressit import metrics
from compressit.compare import Difference, Sure
from compressit.metrics import Evidence, Kind, MetricConfig
from compressit.report import bounds, finite, statistics
from compressit.report.statistics import Interval
from compressit.report.waterfall import MARGIN


def paired(config: MetricConfig, candidate: Evidence, base: Evidence) -> Difference:
    """Hold a candidate against the base on the same examples, or in the same interleaved runs."""
    module: Any = metrics.load(config.metric)
    if module.KIND is Kind.EXACT:
        return exact(config, metrics.value(candidate, config), metrics.value(base, config))
    found: dict[str, Any] = {
        "base": finite(metrics.value(base, config)),
        "candidate": finite(metrics.value(candidate, config)),
    }
    if module.KIND is Kind.TIMED:
        ratio, around = bounds.ratio(config, candidate, base)
        found |= {"ratio": finite(ratio), "ratio_low": finite(around.low), "ratio_high": finite(around.high)}
        sure = surely(module.BETTER, around, 1.0)
    else:
        difference, within = bounds.difference(config, candidate, base)
        found |= {"difference": finite(difference), "low": finite(within.low), "high": finite(within.high)}
        sure = surely(module.BETTER, within, 0.0)
    return Difference(
        metric=config.key, unit=module.UNIT, better=module.BETTER, sure=sure, **found, **_flips(config, candidate, base)
    )


def exact(config: MetricConfig, candidate: float, base: float) -> Difference:
    """Hold a figure without error against the base's."""
    module: Any = metrics.load(config.metric)
    ratio, difference = candidate / base if base else math.nan, candidate - base
    sure = surely(module.BETTER, Interval(difference, difference), 0.0)
    return Difference(
        metric=config.key,
        unit=module.UNIT,
        better=module.BETTER,
        base=finite(base),
        candidate=finite(candidate),
        difference=finite(difference),
        low=finite(difference),
        high=finite(difference),
        ratio=finite(ratio),
        # A few bytes of header are no difference.
        sure=Sure.UNSURE if 1 - MARGIN < ratio < 1 + MARGIN else sure,
    )


def apart(
    config: MetricConfig, base: float | None, candidate: float | None, around: Interval | None = None
) -> Difference:
    """Set two figures side by side that were not measured in pairs.

    Args:
        config: The metric.
        base: Its value for the base.
        candidate: And for the candidate.
        around: Bounds of their difference; None where nothing is known, as of timings of two sessions.
    """
    module: Any = metrics.load(config.metric)
    known = around if around is not None and base is not None and candidate is not None else None
    return Difference(
        metric=config.key,
        unit=module.UNIT,
        better=module.BETTER,
        base=base,
        candidate=candidate,
        difference=candidate - base if known is not None and base is not None and candidate is not None else None,
        low=finite(known.low) if known else None,
        high=finite(known.high) if known else None,
        sure=surely(module.BETTER, known, 0.0) if known else Sure.UNSURE,
        paired=False,
    )


def surely(better: str, interval: Interval, nothing: float) -> Sure:
    """Say on which side of no difference an interval lies."""
    if math.isnan(interval.low) or math.isnan(interval.high):
        return Sure.UNSURE
    if interval.low > nothing:
        return Sure.BETTER if better == "higher" else Sure.WORSE
    if interval.high < nothing:
        return Sure.WORSE if better == "higher" else Sure.BETTER
    return Sure.UNSURE


def _flips(config: MetricConfig, candidate: Evidence, base: Evidence) -> dict[str, Any]:
    module: Any = metrics.load(config.metric)
    if bounds.kind_of(config, candidate) is not Kind.MEAN or getattr(module, "TO_ORIGINAL", False):
        return {}
    after, before = module.per_example(candidate, config), module.per_example(base, config)
    if not (bounds.binary(after) and bounds.binary(before)):
        return {}
    flips = statistics.mcnemar(after > 0, before > 0)
    return {"lost": flips.lost, "gained": flips.gained, "mcnemar_p": flips.p_value}
