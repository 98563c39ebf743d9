"""Verdicts as GitHub's workflow commands: annotations, of which it shows ten of a kind for each step."""

from __future__ import annotations

from collections.abc import Iterable

from compressit.report import Outcome, tables
from compressit.report.junit import Case

SHOWN = 10
KINDS = {Outcome.FAIL: "error", Outcome.INCONCLUSIVE: "warning"}


def commands(cases: Iterable[Case]) -> list[str]:
    """Write a command for each verdict that isn't a pass, at most ten of a kind; the last one counts the rest."""
    found: dict[str, list[str]] = {"error": [], "warning": []}
    for case in cases:
        kind = KINDS.get(case.verdict.outcome)
        if kind is not None:
            title = f"{case.suite}: {case.verdict.metric} {tables.asked(case.verdict)}"
            found[kind].append(f"::{kind} title={_property(title)}::{_data(tables.why(case.verdict))}")
    return [line for kind, lines in found.items() for line in _first(kind, lines)]


def _first(kind: str, lines: list[str]) -> list[str]:
    if len(lines) <= SHOWN:
        return lines
    rest = len(lines) - SHOWN + 1
    return [*lines[: SHOWN - 1], f"::{kind} title=compressit::{rest} more, all of them in the summary"]


def _data(text: str) -> str:
    """Escape a command's message, as the runner's toolkit does."""
    return text.replace("%", "%25").replace("\r", "%0D").replace("\n", "%0A")


def _property(text: str) -> str:
    return _data(text).replace(":", "%3A").replace(",", "%2C")
