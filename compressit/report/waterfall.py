"""What one step gained over what was there before it, as far as measuring can tell."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from compressit import metrics
from compressit.metrics import Evidence, Kind, MetricConfig
from compressit.report import bounds
from compressit.report.statistics import Interval

MARGIN = 0.005
"""Share by which a figure without error must be better to count as a gain."""


@dataclass(frozen=True)
class Stage:
    """The model at one point of the run, as measured.

    Attributes:
        evidence: Of the model.
        original: Of the original beside it; None where it is the original itself.
        multiplications: Those left, as a share of the original's; None where the anatomy isn't known.
    """

    evidence: Evidence
    original: Evidence | None
    multiplications: float | None


def gained(
    after: Stage, before: Stage, configs: Sequence[MetricConfig], seed: int = 0, *, same_runtime: bool = True
) -> tuple[str, ...]:
    """Name what is surely better after a step, or in an export, than before it.

    Size and multiplications are always looked at; the rest are the metrics of the run. Quality is compared on the same
    examples. Each stage was timed next to the original, so that of two stages the faster is known for sure only where
    the bounds of their ratios to it don't meet. On another runtime that is the ratio to the original there, and what
    lies between two of them is the runtime's as well: neither timings nor peaks of memory are compared then.
    """
    found = []
    if after.evidence.facts.bytes < (1 - MARGIN) * before.evidence.facts.bytes:
        found.append("size")
    if after.multiplications is not None and before.multiplications is not None:
        found += ["multiplications"] * (after.multiplications < (1 - MARGIN) * before.multiplications)
    compared = [c for c in configs if c.metric != "size" and (same_runtime or not of_runtime(c))]
    found += [c.key for c in compared if _better(c, after, before, seed)]
    return tuple(found)


def of_runtime(config: MetricConfig) -> bool:
    """Tell whether a metric is a figure of the runtime as much as of the weights: time, or memory while it runs."""
    module: Any = metrics.load(config.metric)
    return module.KIND is Kind.TIMED or getattr(module, "IN_MEMORY", False)


def _better(config: MetricConfig, after: Stage, before: Stage, seed: int) -> bool:
    module: Any = metrics.load(config.metric)
    lower = module.BETTER == "lower"
    if module.KIND is Kind.EXACT:
        new, old = metrics.value(after.evidence, config), metrics.value(before.evidence, config)
        return new < (1 - MARGIN) * old if lower else new > (1 + MARGIN) * old
    if module.KIND is Kind.TIMED:
        now, then = _to_original(config, after, seed), _to_original(config, before, seed)
        return now.high < then.low if lower else now.low > then.high
    _, sure = bounds.difference(config, after.evidence, before.evidence, seed)
    return sure.high < 0 if lower else sure.low > 0


def _to_original(config: MetricConfig, stage: Stage, seed: int) -> Interval:
    return Interval(1, 1) if stage.original is None else bounds.ratio(config, stage.evidence, stage.original, seed)[1]
