"""A comparison as Markdown: for people, a pull request, or a job's summary."""

from __future__ import annotations

from compressit.compare import Compared, Comparison, tables
from compressit.report.markdown import escape, table

SUMMARY_BYTES = 1 << 20
"""What GitHub takes as a step's summary; one that is larger is dropped whole."""


def document(comparison: Comparison, targets: list[list[str]] | None = None) -> str:
    """Write the whole comparison.

    Args:
        comparison: What was found.
        targets: Rows about the candidates' own targets, as their runs judged them.
    """
    parts = [f"## {escape(tables.headline(comparison))}"]
    judged = tables.gates(comparison)
    if judged:
        parts += [table(["verdict", "run", "gate", "measured"], judged)]
    if targets:
        parts += ["### Targets of the recipes", table(["verdict", "run", "target", "measured"], targets)]
    for each in comparison.candidates:
        parts += _candidate(each, comparison)
    return "\n\n".join(parts) + "\n"


def within(text: str, limit: int = SUMMARY_BYTES) -> str:
    """Cut a document at the end of a line so that it fits, and say so."""
    if len(text.encode()) <= limit:
        return text
    more = "\n\nCut here: there is no room for more.\n"
    kept = text.encode()[: limit - len(more.encode())].decode(errors="ignore")
    return kept.rpartition("\n")[0] + more


def _candidate(each: Compared, comparison: Comparison) -> list[str]:
    base = comparison.base
    head = ["", base.name, each.side.name, *tables.HEAD[3:]]
    return [
        f"### {escape(each.side.name)} against {escape(base.name)}",
        escape(f"{each.side.artifact} on {each.side.runtime}; {base.artifact} on {base.runtime}."),
        table(head, tables.differences(each)),
        *(f"- {escape(note)}" for note in tables.notes(each)),
    ]
