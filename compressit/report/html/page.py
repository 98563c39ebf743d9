"""Runs -> one page, through a template."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from compressit.report.html import costs, layers, pareto, searched, sections
from compressit.report.html.svg import plain
from compressit.report.shown import Shown

if TYPE_CHECKING:
    from jinja2 import Environment

LONGEST = 1_000_000


def page(runs: Sequence[Shown]) -> str:
    """Make the page of one run or several."""
    return render("page.html", runs)


def render(template: str, runs: Sequence[Shown], folder: Path | None = None, **more: Any) -> str:
    """Fill a template with runs.

    Args:
        template: Name of a file of this folder, or of `folder`, which may extend `page.html`.
        runs: What is shown, in order.
        folder: Where else templates are.
        more: Whatever else the template asks for.
    """
    views = [
        {
            "name": run.name,
            "verdict": sections.verdict(run.report),
            "headlines": sections.headlines(run.report),
            "targets": sections.targets(run.report),
            "figures": sections.figures(run.report),
            "waterfall": sections.waterfall(run.report),
            "steps": sections.steps(run.report),
            "layers": layers.shown(run.report.layers),
            "costs": costs.shown(run.report.sensitivity, run.report.layers),
            "searched": searched.shown(run.report),
            "flips": flips,
            "textless": run.textless,
            "origin": sections.origin(run.report),
            "recipe": run.recipe,
        }
        for run, flips in zip(runs, sections.flips([run.flips for run in runs]), strict=True)
    ]
    made = _environment(folder).get_template(template)
    return made.render(runs=views, tradeoffs=pareto.tradeoffs(runs), **more)


def _environment(folder: Path | None) -> Environment:
    """Every value is escaped, none that is missing passes, and no control character reaches the page."""
    import jinja2

    places = [Path(__file__).parent, *([folder] if folder else [])]
    return jinja2.Environment(
        loader=jinja2.FileSystemLoader(places),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        finalize=_harmless,
        trim_blocks=True,
        lstrip_blocks=True,
    )


def _harmless(value: object) -> object:
    return plain(value, LONGEST) if isinstance(value, str) and not hasattr(value, "__html__") else value
