"""Evidence -> the figures of a report."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from compressit import metrics
from compressit.metrics import Evidence, Kind, MetricConfig
from compressit.report import Artifact, Reading, StepRecord, bounds, finite, statistics
from compressit.report.bounds import paired_median_ratio
from compressit.report.waterfall import Stage, gained


def artifact(
    name: str,
    runtime: str,
    device: str,
    evidence: Evidence,
    original: Evidence | None,
    configs: Sequence[MetricConfig],
    notes: Mapping[str, Any] | None = None,
    seed: int = 0,
    multiplications: float | None = None,
) -> Artifact:
    """Write down what was measured of an artifact; of the original itself where `original` is None."""
    facts = evidence.facts
    own_gain = {
        size: paired_median_ratio(timing.baseline, timing.original)
        for size, timing in evidence.timings.items()
        if original is not None and timing.baseline is not timing.original
    }
    return Artifact(
        name=name,
        path=name,
        runtime=runtime,
        device=device,
        bytes=facts.bytes,
        parameters=facts.parameters,
        nonzero=facts.nonzero,
        dtypes=dict(facts.dtypes),
        notes=dict(notes or {}),
        readings=tuple(reading(config, evidence, original, seed) for config in configs),
        runtime_ratio=own_gain,
        multiplications=multiplications,
    )


def steps(
    done: Sequence[tuple[StepRecord, Stage | None]],
    original: Stage,
    checkpoint: Stage,
    configs: Sequence[MetricConfig],
    device: str,
    seed: int = 0,
) -> tuple[StepRecord, ...]:
    """Write down what was measured after each step, and what each gained; the last one made the checkpoint."""
    found: list[StepRecord] = []
    before: Stage | None = original
    for number, (record, stage) in enumerate(done, 1):
        after = checkpoint if number == len(done) else stage
        measured: dict[str, Any] = {}
        if after is not None and before is not None:
            measured["gained"] = gained(after, before, configs, seed)
        if stage is not None:
            left = stage.multiplications
            measured["after"] = artifact(
                f"step-{number}", "torch", device, stage.evidence, stage.original, configs, None, seed, left
            )
        found.append(record.model_copy(update=measured))
        before = after
    return tuple(found)


def reading(config: MetricConfig, evidence: Evidence, original: Evidence | None, seed: int = 0) -> Reading:
    """Measure one metric with its bounds."""
    module: Any = metrics.load(config.metric)
    value, interval = bounds.value(config, evidence, seed)
    exact = module.KIND is Kind.EXACT
    against: dict[str, float | None] = {}
    if original is not None and not getattr(module, "TO_ORIGINAL", False):
        ratio, sure = bounds.ratio(config, evidence, original, seed)
        against = {"baseline": finite(metrics.value(original, config)), "ratio": finite(ratio)}
        if not exact:
            against |= {"ratio_low": finite(sure.low), "ratio_high": finite(sure.high)}
    return Reading(
        metric=config.key,
        unit=module.UNIT,
        better=module.BETTER,
        value=finite(value),
        low=None if exact else finite(interval.low),
        high=None if exact else finite(interval.high),
        details=_details(module, config, evidence, original),
        **against,
    )


def _details(module: Any, config: MetricConfig, evidence: Evidence, original: Evidence | None) -> dict[str, float]:
    if module.KIND is Kind.TIMED:
        timing = evidence.timings[config.batch_sizes()[0]]
        found = {"runs": float(len(timing.artifact)), "noise": statistics.noise(timing.baseline, timing.again)}
        if hasattr(module, "details"):
            found |= module.details(timing, config)
        return {name: value for name, value in found.items() if math.isfinite(value)}
    one_each = bounds.kind_of(config, evidence) is Kind.MEAN
    if config.metric in ("accuracy", "last_word_accuracy") and original is not None and one_each:
        after, before = module.per_example(evidence, config), module.per_example(original, config)
        lost, gained, p_value = statistics.mcnemar(after > 0, before > 0)
        return {"lost": lost, "gained": gained, "mcnemar_p": p_value}
    beside: dict[str, float] = getattr(module, "details", lambda *unused: {})(evidence, config)
    return beside
