"""Quality against what it costs, over all runs of the page, and which points no other beats."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from compressit.recipe.quantities import show
from compressit.report import Artifact, Reading, Report
from compressit.report.html import svg
from compressit.report.html.svg import Drawn, Point
from compressit.report.shown import Shown

NAMED = 4
"""Points up to which their names fit beside them; more go by number."""


@dataclass(frozen=True)
class Tradeoffs:
    """Charts of quality against each cost, and their table.

    Attributes:
        notes: What should be known when points of several runs are compared.
    """

    charts: Sequence[tuple[str, Drawn]]
    head: Sequence[str]
    rows: Sequence[Sequence[str]]
    notes: Sequence[str]


@dataclass(frozen=True)
class _Model:
    """One thing that could be shipped."""

    run: str
    name: str
    quality: Reading
    bytes: int
    pace: float | None
    original: bool = False
    elsewhere: bool = False

    @property
    def label(self) -> str:
        return f"{self.run}: {self.name}" if self.run else self.name


def tradeoffs(runs: Sequence[Shown]) -> Tradeoffs | None:
    """Draw quality against pace and size; None where runs were not judged by the same metric."""
    qualities = [_quality(run.report) for run in runs]
    first = qualities[0] if qualities else None
    if first is None or any(each is None or each.metric != first.metric for each in qualities):
        return None
    pace = _pace(runs[0].report)
    if pace is not None and any(pace.metric not in _metrics(run.report) for run in runs):
        pace = None
    models = _models(runs, first.metric, pace.metric if pace else None)
    charts, fronts = [], []
    costs = [] if pace is None else [(pace.metric, pace.unit, pace.better == "higher", False)]
    for name, unit, more, size in [*costs, ("size", "bytes", False, True)]:
        # The original on another runtime is as large as on its own.
        some = [m for m in models if not (size and m.elsewhere)]
        drawn = [_point(m, number, len(models), size) for number, m in enumerate(models, 1) if m in some]
        points = front([point for point in drawn if point is not None], more, first.better == "higher")
        if not points:
            continue
        title = f"{first.metric} against {name}"
        better = "right" if more else "left"
        best = f"{'up' if first.better == 'higher' else 'down'} and {better} is better"
        chart = svg.scatter(title, (name, unit), (first.metric, first.unit), points)
        charts.append((f"{title}: {best}", chart))
        fronts.append((name, {point.label for point in points if point.front}))
    head = ["", *(["run"] if len(runs) > 1 else []), "", first.metric, "95% sure between"]
    head += [*([pace.metric] if pace else []), "size", "not beaten in"]
    rows = [
        [
            str(number),
            *([m.run] if len(runs) > 1 else []),
            m.name,
            "" if m.quality.value is None else show(m.quality.value, m.quality.unit),
            _span(m.quality),
            *([show(m.pace, pace.unit) if m.pace is not None else ""] if pace else []),
            show(m.bytes, "bytes"),
            ", ".join(name for name, labels in fronts if m.label in labels) or "\N{EN DASH}",
        ]
        for number, m in enumerate(models, 1)
    ]
    return Tradeoffs(charts, head, rows, _notes(runs, pace is not None))


def front(points: Sequence[Point], more: bool, higher: bool) -> list[Point]:
    """Mark the points that no other is at least as good as in both, and better in one.

    Args:
        points: In any order.
        more: Whether a greater x is better.
        higher: Whether a greater y is better.
    """

    def good(point: Point) -> tuple[float, float]:
        return (point.x if more else -point.x), (point.y if higher else -point.y)

    def beaten(point: Point) -> bool:
        x, y = good(point)
        return any(a >= x and b >= y and (a, b) != (x, y) for a, b in map(good, points))

    return [replace(point, front=not beaten(point)) for point in points]


def _models(runs: Sequence[Shown], quality: str, pace: str | None) -> list[_Model]:
    found: list[_Model] = []
    known: list[dict[str, str]] = []
    for run in runs:
        name = run.name if len(runs) > 1 else ""
        original = run.report.original
        if run.report.provenance.model not in known:
            known.append(run.report.provenance.model)
            found.append(_model(name, "original", original, quality, pace, original=True))
            found += _elsewhere(name, run.report, quality, pace)
        found += [_model(name, artifact.name, artifact, quality, pace) for artifact in run.report.artifacts]
    return found


def _elsewhere(name: str, report: Report, quality: str, pace: str | None) -> list[_Model]:
    """Give the original as an uncompressed export, for each runtime it was timed on besides its own."""
    found: dict[str, _Model] = {}
    for artifact in report.artifacts:
        reading = None if pace is None else _reading(artifact, pace)
        if artifact.runtime == report.original.runtime or reading is None or reading.baseline is None:
            continue
        own = _model(name, f"original on {artifact.runtime}", report.original, quality, pace, original=True)
        found.setdefault(artifact.runtime, replace(own, pace=reading.baseline, elsewhere=True))
    return list(found.values())


def _model(run: str, name: str, artifact: Artifact, quality: str, pace: str | None, original: bool = False) -> _Model:
    read, timed = _reading(artifact, quality), None if pace is None else _reading(artifact, pace)
    assert read is not None, "every artifact has the readings that the original has"
    return _Model(run, name, read, artifact.bytes, None if timed is None else timed.value, original)


def _point(model: _Model, number: int, count: int, size: bool) -> Point | None:
    x, y = (float(model.bytes) if size else model.pace), model.quality.value
    if x is None or y is None:
        return None
    mark = model.name if count <= NAMED else str(number)
    return Point(mark, model.label, x, y, model.original, False, model.quality.low, model.quality.high)


def _quality(report: Report) -> Reading | None:
    """Choose the first metric that the original and each artifact were judged by example on."""
    kept = {reading.metric for a in report.artifacts for reading in a.readings if reading.baseline is not None}
    found = (r for r in report.original.readings if r.unit == "" and r.low is not None and r.metric in kept)
    return next(found, None)


def _pace(report: Report) -> Reading | None:
    """Choose the latency where there is one, and otherwise the throughput."""
    for unit in ("seconds", "examples/s"):
        for reading in report.original.readings:
            if reading.unit == unit:
                return reading
    return None


def _metrics(report: Report) -> set[str]:
    return {reading.metric for reading in report.original.readings}


def _reading(artifact: Artifact, metric: str) -> Reading | None:
    return next((reading for reading in artifact.readings if reading.metric == metric), None)


def _span(reading: Reading) -> str:
    if reading.low is None or reading.high is None:
        return ""
    return f"{show(reading.low, reading.unit)} to {show(reading.high, reading.unit)}"


def _notes(runs: Sequence[Shown], timed: bool) -> list[str]:
    """Say what keeps points of several runs from being compared at a glance."""
    found = []
    if timed and len(runs) > 1:
        found.append("timings of different runs were made at different times; only within a run were they alternated")
    if len({run.report.provenance.data.get("sha256") for run in runs}) > 1:
        found.append("these runs were judged on different examples: their quality can't be compared")
    return found
