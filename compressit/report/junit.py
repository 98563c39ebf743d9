"""Verdicts as JUnit XML, which every CI shows: one case for each target or gate.

A missed one is a failure; one that can't be decided is a failure too, or skipped where that is allowed.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from xml.etree import ElementTree

from compressit.report import Outcome, Verdict, tables

NOT_XML = re.compile("[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")


@dataclass(frozen=True)
class Case:
    """One verdict of one suite, such as a run's targets."""

    suite: str
    verdict: Verdict


def document(cases: Iterable[Case], *, undecided_fails: bool = True) -> str:
    """Write the XML.

    Args:
        cases: In the order in which they are shown.
        undecided_fails: Whether a verdict of inconclusive counts as a failure.
    """
    root = ElementTree.Element("testsuites", name="compressit")
    suites: dict[str, list[Verdict]] = {}
    for case in cases:
        suites.setdefault(case.suite, []).append(case.verdict)
    for name, verdicts in suites.items():
        failed = [each for each in verdicts if _fails(each, undecided_fails)]
        skipped = [each for each in verdicts if each.outcome is not Outcome.PASS and each not in failed]
        counts = {"tests": len(verdicts), "failures": len(failed), "errors": 0, "skipped": len(skipped)}
        shown = {"name": _clean(name), **{key: str(count) for key, count in counts.items()}}
        suite = ElementTree.SubElement(root, "testsuite", shown)
        for verdict in verdicts:
            _case(suite, name, verdict, undecided_fails)
    ElementTree.indent(root)
    return '<?xml version="1.0" encoding="utf-8"?>\n' + ElementTree.tostring(root, encoding="unicode") + "\n"


def _case(suite: ElementTree.Element, name: str, verdict: Verdict, undecided_fails: bool) -> None:
    title = f"{verdict.metric} {tables.asked(verdict)} ({verdict.artifact})"
    case = ElementTree.SubElement(suite, "testcase", classname=_clean(name), name=_clean(title), time="0")
    why = _clean(tables.why(verdict))
    if verdict.outcome is Outcome.PASS:
        ElementTree.SubElement(case, "system-out").text = why
        return
    kind = "failure" if _fails(verdict, undecided_fails) else "skipped"
    made = ElementTree.SubElement(case, kind, message=f"{tables.MARKS[verdict.outcome]}: {why}")
    if kind == "failure":
        made.set("type", verdict.outcome.value)


def _fails(verdict: Verdict, undecided_fails: bool) -> bool:
    return verdict.outcome is Outcome.FAIL or (undecided_fails and verdict.outcome is Outcome.INCONCLUSIVE)


def _clean(text: str) -> str:
    """Drop what XML 1.0 can't hold."""
    return NOT_XML.sub("", text)
