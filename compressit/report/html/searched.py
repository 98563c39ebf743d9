"""What a search has tried: quality against what was to be best, and a table of every trial."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from compressit.report import Report, Search, Trial, tables
from compressit.report.html import svg
from compressit.report.html.svg import Drawn, Point


@dataclass(frozen=True)
class Searched:
    """The chart, and the table of the trials."""

    told: str
    charts: Sequence[tuple[str, Drawn]]
    head: Sequence[str]
    rows: Sequence[Sequence[str]]


def shown(report: Report) -> Searched | None:
    """Show what a search has tried; None where the recipe wasn't searched for."""
    found = report.search
    if found is None:
        return None
    head, rows = tables.trials(report)
    return Searched(tables.searched(found), _charts(report, found), head, rows)


def _charts(report: Report, found: Search) -> list[tuple[str, Drawn]]:
    """Draw each objective against the first figure of quality."""
    quality = next((reading.metric for reading in report.original.readings if reading.unit == ""), None)
    drawn = []
    for cost in found.objectives:
        points = [_point(trial, cost, quality) for trial in found.trials if {cost, quality} <= trial.figures.keys()]
        if quality and cost != quality and points:
            title = f"{quality} against {cost}, on {found.split}"
            along = (
                (f"{cost}, as a ratio to the original's", "") if _timed(cost, report) else (cost, _unit(cost, report))
            )
            drawn.append((title, svg.scatter(title, along, (quality, ""), points)))
    return drawn


def _point(trial: Trial, cost: str, quality: str | None) -> Point:
    # Only those that may be chosen have their number beside them: forty would lie over one another.
    mark = str(trial.number) if trial.front or trial.chosen else ""
    label = f"{trial.number}: " + ", ".join(f"{name} {value}" for name, value in trial.settings.items())
    return Point(mark, label, trial.figures[cost], trial.figures[quality or ""], front=trial.front)


def _timed(metric: str, report: Report) -> bool:
    return _unit(metric, report) in tables.TIMES


def _unit(metric: str, report: Report) -> str:
    return next((reading.unit for reading in report.original.readings if reading.metric == metric), "")
