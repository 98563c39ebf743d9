"""What a trial's report says of it: its figures, and how far each target is from being met."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from compressit import metrics
from compressit.metrics import Kind, MetricConfig
from compressit.report import Artifact, Outcome, Reading, Report, Trial, Verdict

UNKNOWN = 1e6
"""How far off a target is that nothing is known about."""


@dataclass(frozen=True)
class Objective:
    """A metric that shall be best.

    Attributes:
        least: Whether less of it is better.
        timed: Whether it is taken as a ratio to the original's, which ran right beside it: machines have moods.
    """

    metric: str
    least: bool
    timed: bool


@dataclass(frozen=True)
class Judged:
    """A trial that has ended.

    Attributes:
        settings: What was filled in, by the range's name.
        values: Of the objectives; empty where it died.
        off: How far each target is from being met, as a share of its limit; 0 or less where it is met. By its words.
        figures: Every metric of its last artifact: values, and of timings ratios to the original's.
        why: What it died of.
        passing: It was ended from outside, by what may be over the next time.
    """

    settings: Mapping[str, object]
    digest: str
    values: tuple[float, ...] = ()
    off: Mapping[str, float] = field(default_factory=dict)
    figures: Mapping[str, float] = field(default_factory=dict)
    verdicts: tuple[Verdict, ...] = ()
    why: str = ""
    passing: bool = False

    @property
    def holds(self) -> bool:
        """Whether it meets every target."""
        return not self.why and all(verdict.outcome is Outcome.PASS for verdict in self.verdicts)

    @property
    def total_off(self) -> float:
        """How far the targets are from being met, all together."""
        return sum(max(0.0, each) for each in self.off.values())


def objectives(names: Sequence[str], configs: Mapping[str, MetricConfig]) -> tuple[Objective, ...]:
    """Look up which way each metric is better."""
    found = []
    for name in names:
        module = metrics.load(configs[name].metric)
        found.append(Objective(name, module.BETTER == "lower", module.KIND is Kind.TIMED))
    return tuple(found)


def judged(report: Report, wanted: Sequence[Objective], settings: Mapping[str, object], digest: str) -> Judged:
    """Read a trial's figures and how far it is from each target."""
    figures = {reading.metric: figure for reading in last(report).readings if (figure := _figure(reading)) is not None}
    off = {words(verdict): _off(verdict) for verdict in report.verdicts}
    if missing := next((each.metric for each in wanted if each.metric not in figures), None):
        return Judged(
            settings, digest, figures=figures, off=off, verdicts=report.verdicts, why=f"{missing} is no number"
        )
    values = tuple(figures[each.metric] for each in wanted)
    return Judged(settings, digest, values, off, figures, report.verdicts)


def last(report: Report) -> Artifact:
    """Give what a run made last."""
    return report.artifacts[-1]


def words(verdict: Verdict) -> str:
    """Name a target."""
    return f"{verdict.metric} {verdict.bound} {verdict.limit:g} ({verdict.artifact})"


def record(number: int, found: Judged, *, front: bool, chosen: bool) -> Trial:
    """Write a trial down for the report."""
    return Trial(
        number=number,
        settings=dict(found.settings),
        figures=dict(found.figures),
        missed=tuple(name for name, off in found.off.items() if off > 0),
        why=found.why,
        front=front,
        chosen=chosen,
    )


def _figure(reading: Reading) -> float | None:
    return reading.ratio if reading.unit in ("seconds", "examples/s") and reading.ratio is not None else reading.value


def _off(verdict: Verdict) -> float:
    """Say by which share of its limit the bound misses it: the bound decides, so the bound is what counts."""
    least = verdict.bound in ("min", "min_ratio", "max_drop")
    bound = verdict.low if least else verdict.high
    if bound is None:
        return UNKNOWN
    limit = -verdict.limit if verdict.bound == "max_drop" else verdict.limit
    return (limit - bound if least else bound - limit) / (abs(limit) or 0.01)
