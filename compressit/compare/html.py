"""The page of a comparison: the page of its runs, with what was found between them first."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from compressit.compare import Compared, Comparison, Difference, Sure, tables
from compressit.errors import ExitCode
from compressit.report import Verdict, exit_code
from compressit.report.html import render, sections, svg
from compressit.report.html.sections import WORDS, Judged, Said
from compressit.report.html.svg import Drawn
from compressit.report.shown import Shown

OWN = {
    ExitCode.OK: "Met its own targets.",
    ExitCode.TARGET_MISSED: "Missed its own targets.",
    ExitCode.INCONCLUSIVE: "Its own targets can\N{RIGHT SINGLE QUOTATION MARK}t all be decided.",
}
KINDS = {Sure.BETTER: "pass", Sure.WORSE: "fail"}


@dataclass(frozen=True)
class Row:
    """One metric of a candidate against the base.

    Attributes:
        texts: Metric, base, candidate, difference.
        kind: pass where the candidate is surely better, fail where it is surely worse.
        sure: The same in words.
    """

    texts: Sequence[str]
    chart: Drawn
    kind: str
    sure: str


@dataclass(frozen=True)
class Held:
    """A candidate held against the base."""

    name: str
    about: str
    verdict: Said
    gates: Sequence[Judged]
    rows: Sequence[Row]
    notes: Sequence[str]


def page(runs: Sequence[Shown], comparison: Comparison) -> str:
    """Make the page of a comparison.

    Args:
        runs: Those compared, the base first where it is a run; they go by the names that the comparison has for them.
        comparison: What was found.
    """
    targets = {run.name: run.report.verdicts for run in runs}
    held = [_held(each, comparison, targets.get(each.side.name, ())) for each in comparison.candidates]
    return render(
        "comparison.html",
        runs,
        Path(__file__).parent,
        base=comparison.base.name,
        examples=f"{comparison.examples:,}",
        headline=tables.headline(comparison),
        held=held,
        own={run.name: _own(run.report.verdicts) for run in runs},
    )


def _held(each: Compared, comparison: Comparison, targets: Sequence[Verdict]) -> Held:
    side, base = each.side, comparison.base
    return Held(
        side.name,
        f"{side.artifact} on {side.runtime}, against {base.artifact} of {base.name} on {base.runtime}",
        _verdict(each, targets),
        [sections.judged(verdict) for verdict in each.verdicts],
        [
            Row(texts[:4], _chart(difference), KINDS.get(difference.sure, "none"), texts[4])
            for difference, texts in zip(each.differences, tables.differences(each), strict=True)
        ],
        tables.notes(each),
    )


def _verdict(each: Compared, targets: Sequence[Verdict]) -> Said:
    """Answer whether to ship a candidate: its gates and its own targets decide, as they do on the command line.

    Without gates there is no answer, whatever its own targets say: they are not about the base.
    """
    own = [sections.counted(targets, "own target")] if targets else []
    if not each.verdicts:
        return Said("none", tables.UNJUDGED, " ".join([f"It is {tables.surely(each)}.", *own]))
    code = exit_code(verdict.outcome for verdict in (*each.verdicts, *targets))
    return Said(*WORDS[code], " ".join([sections.counted(each.verdicts, "gate"), *own]))


def _own(targets: Sequence[Verdict]) -> Said:
    """Say of a run what came out of its own targets: beside a comparison that doesn't answer whether to ship it."""
    if not targets:
        return Said("none", "No targets of its own.", "Its recipe sets none.")
    code = exit_code(verdict.outcome for verdict in targets)
    return Said(WORDS[code][0], OWN[code], sections.counted(targets))


def _chart(difference: Difference) -> Drawn:
    """Draw the bounds of a difference against none; the shaded side is the better one."""
    apart = difference.unit == "" and difference.difference is not None
    value, low, high, none = (
        (difference.difference, difference.low, difference.high, 0.0)
        if apart
        else (difference.ratio, difference.ratio_low, difference.ratio_high, 1.0)
    )
    if low is None or high is None:
        return Drawn("")
    said = f"{difference.metric}: {difference.sure.value}"
    return svg.interval(said, none, low, high, value, least=difference.better == "higher")
