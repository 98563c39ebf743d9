"""What the sections of the page about one run show, as plain values."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from compressit.errors import MEANING, ExitCode
from compressit.recipe.quantities import show
from compressit.report import Artifact, Outcome, Reading, Report, Verdict, tables
from compressit.report.flips import Flips
from compressit.report.html import svg
from compressit.report.html.svg import Bar, Drawn

WORDS = {
    ExitCode.OK: ("pass", "Ship it."),
    ExitCode.TARGET_MISSED: ("fail", "Don\N{RIGHT SINGLE QUOTATION MARK}t ship it."),
    ExitCode.INCONCLUSIVE: ("unsure", "Can\N{RIGHT SINGLE QUOTATION MARK}t tell yet."),
}
NO_TARGETS = ("none", "No targets.")
KINDS = {Outcome.PASS: "pass", Outcome.FAIL: "fail", Outcome.INCONCLUSIVE: "unsure"}
PICTURES = 2_000_000
"""Characters that all pictures of a page take at most."""
PANELS = 6
"""Charts of the waterfall at most; the table has all of its figures."""


@dataclass(frozen=True)
class Said:
    """The answer to whether to ship it.

    Attributes:
        kind: pass, fail, unsure or none.
        words: The answer.
        why: What it rests on.
    """

    kind: str
    words: str
    why: str


@dataclass(frozen=True)
class Judged:
    """One target as a row."""

    kind: str
    mark: str
    asked: str
    artifact: str
    measured: str
    between: str
    why: str
    chart: Drawn


@dataclass(frozen=True)
class Table:
    """A table whose cells may hold a small chart."""

    head: Sequence[str]
    rows: Sequence[Sequence[tuple[str, Drawn]]]
    notes: Sequence[str] = ()


@dataclass(frozen=True)
class Waterfall:
    """What each step did: charts, the table, and what should be known."""

    charts: Sequence[tuple[str, Drawn]]
    head: Sequence[str]
    rows: Sequence[Sequence[str]]
    notes: Sequence[str]


def verdict(report: Report) -> Said:
    """Answer whether to ship it, in the words of the exit code."""
    if not report.verdicts:
        return Said(*NO_TARGETS, "The recipe sets none, so nothing was judged: the figures speak for themselves.")
    kind, words = WORDS[report.exit_code]
    return Said(kind, words, f"{counted(report.verdicts)} {MEANING[report.exit_code]}")


def counted(verdicts: Sequence[Verdict], noun: str = "target") -> str:
    """Count the verdicts on targets, or on what else is asked, in words, and name those that did not pass."""
    by_kind = {
        outcome: [f"{v.metric} of {v.artifact}" for v in verdicts if v.outcome is outcome]
        for outcome in (Outcome.FAIL, Outcome.INCONCLUSIVE)
    }
    passed = sum(v.outcome is Outcome.PASS for v in verdicts)
    parts = [f"{passed} of {len(verdicts)} {noun}{'s' if len(verdicts) > 1 else ''} met"]
    if by_kind[Outcome.FAIL]:
        parts.append(f"missed: {', '.join(by_kind[Outcome.FAIL])}")
    if by_kind[Outcome.INCONCLUSIVE]:
        parts.append(f"undecided: {', '.join(by_kind[Outcome.INCONCLUSIVE])}")
    return f"{'; '.join(parts)}."


def headlines(report: Report) -> list[tuple[str, str]]:
    """Say of each artifact, the last one first, what it gained and what it kept."""
    found = []
    for artifact in reversed(report.artifacts):
        _, colon, said = tables.headline(artifact).partition(": ")
        if colon:
            found.append((artifact.name, said))
    return found


def targets(report: Report) -> list[Judged]:
    """Show each target with what was asked, what was measured, and its bound."""
    return [judged(v) for v in report.verdicts]


def judged(v: Verdict) -> Judged:
    """Show one target."""
    asked = f"{v.metric} {tables.asked(v)}".replace("<=", "\N{LESS-THAN OR EQUAL TO}").replace(
        ">=", "\N{GREATER-THAN OR EQUAL TO}"
    )
    known = v.low is not None and v.high is not None
    low, high = (v.low, v.high) if known else (v.value, v.value)
    chart = Drawn("")
    if low is not None and high is not None:
        said = f"{asked}: measured {quantity(v.value, v)}"
        least = v.bound in ("min", "min_ratio", "max_drop")
        limit = -v.limit if v.bound == "max_drop" else v.limit
        chart = svg.interval(said, limit, low, high, v.value, least=least)
    between = "exact" if v.low == v.high else f"{quantity(v.low, v)} to {quantity(v.high, v)}"
    if not known:
        between = "" if v.value is None else "no bounds"
    told = v.value is not None and (v.bound != "max_drop" or v.outcome is Outcome.PASS)
    why = [*([] if told else [v.why]), *([f"about {v.needed:,} examples would decide"] if v.needed else [])]
    return Judged(
        KINDS[v.outcome],
        tables.MARKS[v.outcome],
        asked,
        v.artifact,
        "not measured" if v.value is None and v.outcome is Outcome.INCONCLUSIVE else quantity(v.value, v),
        between,
        "; ".join(why),
        chart,
    )


def quantity(value: float | None, v: Verdict) -> str:
    """Write a value in the unit of a target's bound."""
    if value is None:
        return "not a number"
    if v.unit == "ratio":
        return f"{value:.3g}x"
    return f"{value:+.4f}" if v.bound == "max_drop" and not v.unit else show(value, v.unit)


def figures(report: Report) -> Table:
    """Show before and after, each figure with a bar to its row's largest."""
    head, texts = tables.figures(report)
    rows = []
    for index, (reading, cells) in enumerate(zip(report.original.readings, texts, strict=True)):
        values = [("original", reading.value)]
        for artifact in report.artifacts:
            own = artifact.readings[index]
            if artifact.runtime != report.original.runtime:
                values.append(("original", own.baseline))
            values.append(("own", own.value))
        whole = max((value for _, value in values if value is not None), default=0.0)
        drawn = [svg.share(value, whole, kind) for kind, value in values]
        rows.append([(cells[0], Drawn("")), *zip(cells[1:], drawn, strict=True)])
    gains = [f"{a.name}: {tables.gains(a)}" for a in report.artifacts if a.runtime_ratio]
    caveats = [caveat for artifact in report.artifacts for caveat in tables.caveats(artifact)]
    return Table(head, rows, [*gains, *caveats, *tables.reservations(report), *tables.passed_over(report)])


def waterfall(report: Report) -> Waterfall | None:
    """Show what each step did; None where that was not measured."""
    if not tables.measured_by_stage(report):
        return None
    head, rows = tables.waterfall(report)
    checkpoint, *exported = report.artifacts
    stages: list[tuple[str, Artifact]] = [("original", report.original)]
    for number, step in enumerate(report.steps, 1):
        after = checkpoint if number == len(report.steps) else step.after
        if after is not None:
            stages.append((f"{number} {step.step}", after))
    stages += [(f"export {artifact.name}", artifact) for artifact in exported]
    original = report.original
    charts = [("size", [Bar(n, a.bytes, show(a.bytes, "bytes"), a is original) for n, a in stages])]
    left = [(n, a, 1.0 if a is original else a.multiplications) for n, a in stages]
    if checkpoint.multiplications is not None:
        shares = [Bar(n, share, "" if share is None else f"{share:.0%}", a is original) for n, a, share in left]
        charts.append(("multiplications in the blocks", shares))
    for index, reading in enumerate(original.readings):
        if reading.metric != "size":
            charts.append(
                (f"{reading.metric}, {reading.better} is better", [_bar(n, a, index, a is original) for n, a in stages])
            )
    drawn = [(title, svg.bars(title, bars)) for title, bars in charts[:PANELS]]
    return Waterfall(drawn, head, rows, tables.idle(report))


def steps(report: Report) -> list[list[str]]:
    """Show each step as it ran."""
    return tables.steps(report)


def flips(runs: Sequence[Sequence[Flips]]) -> list[list[Flips]]:
    """Show of each run the artifacts that got some example worse, the last one first; pictures as long as they fit."""
    left = PICTURES
    shown: list[list[Flips]] = []
    for run in runs:
        shown.append([])
        for each in (each for each in reversed(run) if each.count):
            worst = []
            for flip in each.worst:
                size = len(flip.picture.source) if flip.picture else 0
                worst.append(flip if size <= left else replace(flip, picture=None))
                left -= size if size <= left else 0
            shown[-1].append(replace(each, worst=tuple(worst)))
    return shown


def origin(report: Report) -> list[tuple[str, str]]:
    """Say where the result comes from."""
    said = report.provenance

    def joined(facts: dict[str, str] | dict[str, str | int]) -> str:
        return ", ".join(f"{name} {value}" for name, value in facts.items())

    return [
        ("task", report.task),
        ("model", joined(said.model)),
        ("data", joined(said.data)),
        ("recipe (SHA-256)", said.recipe_sha256),
        ("overrides", ", ".join(said.overrides) or "none"),
        ("seed", str(said.seed)),
        ("device", said.device),
        ("hardware", joined(said.hardware)),
        ("versions", joined(said.versions)),
        ("made", f"{said.created}, in {said.seconds:.0f} s"),
    ]


def _bar(label: str, artifact: Artifact, index: int, original: bool) -> Bar:
    reading: Reading = artifact.readings[index]
    shown = "" if reading.value is None else show(reading.value, reading.unit)
    return Bar(label, reading.value, shown, original, reading.low, reading.high)
