"""All jobs of a batch side by side: tables, and a comparison of those that can be compared."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from compressit import store
from compressit.batch import Standing, State, worst
from compressit.compare import Comparison, comparing
from compressit.compare import runs as opened
from compressit.compare.markdown import document
from compressit.errors import MEANING, CompressitError, ExitCode
from compressit.recipe.quantities import show
from compressit.report import tables
from compressit.report.markdown import escape, table

HEAD = ["job", "state", "targets", "tries", "time", "memory", "result"]
VERDICTS = {ExitCode.OK: "pass", ExitCode.TARGET_MISSED: "FAIL", ExitCode.INCONCLUSIVE: "can't tell"}


def rows(standings: Sequence[Standing]) -> list[list[str]]:
    """Say of each job how it stands."""
    return [_row(each) for each in standings]


def exit_code(standings: Sequence[Standing]) -> ExitCode:
    """Choose the batch's exit code by the rule of `batch.worst`."""
    return worst(each.code for each in standings if each.code is not None)


def headline(standings: Sequence[Standing]) -> str:
    """Count the jobs by what became of them."""
    counts = {state: sum(each.state is state for each in standings) for state in State}
    said = [f"{count} {state}" for state, count in counts.items() if count]
    before = sum(each.before for each in standings)
    return f"{len(standings)} jobs: {', '.join(said)}" + (f" ({before} by an earlier batch)" if before else "")


def compared(standings: Sequence[Standing]) -> tuple[Comparison | None, list[str]]:
    """Hold the results against the first of them, as far as they saw the same examples.

    Returns:
        The comparison, None where there is nothing to compare, and why runs are left out of it.
    """
    places = [each.task.output for each in standings if each.state is State.DONE]
    done = [place for place in places if isinstance(place, Path)]
    if len(done) < 2:
        return None, ["results behind a URL are not compared"] if len(places) - len(done) > 1 else []
    base, *others = opened.open_all(done)
    held, notes = [base], []
    for run in others:
        try:
            comparing.runs(base, [run])
            held.append(run)
        except CompressitError as error:
            notes.append(f"{run.name} is not compared with {base.name}: {error.message}")
    return (comparing.runs(base, held[1:]) if len(held) > 1 else None), notes


def markdown(name: str, standings: Sequence[Standing], comparison: Comparison | None, notes: Sequence[str]) -> str:
    """Write the report of a batch."""
    code = exit_code(standings)
    parts = [f"# Batch {escape(name)}", f"{headline(standings)}. Exit code {int(code)}: {MEANING[code]}"]
    parts.append(table(HEAD, rows(standings)))
    for each in standings:
        parts += _job(each)
    if comparison is not None:
        parts.append(document(comparison).rstrip())
    parts += [f"- {escape(note)}" for note in notes]
    return "\n\n".join(parts) + "\n"


def data(name: str, standings: Sequence[Standing]) -> str:
    """Write a batch as JSON."""
    jobs = [_data(each) for each in standings]
    return json.dumps({"batch": name, "exit_code": int(exit_code(standings)), "jobs": jobs}, indent=1)


def write(folder: Path, standings: Sequence[Standing], comparison: Comparison | None, notes: Sequence[str]) -> None:
    """Write report.md and report.json into a batch's folder."""
    texts = {"report.md": markdown(folder.name, standings, comparison, notes)}
    texts["report.json"] = data(folder.name, standings) + "\n"
    for name, text in texts.items():
        with store.written(folder / name, overwrite=True) as stream:
            stream.write(text)


def _row(each: Standing) -> list[str]:
    ended = each.ended
    verdict = VERDICTS.get(each.code, "") if each.report is not None and each.code is not None else ""
    if each.report is not None and not each.report.verdicts:
        verdict = "none"
    seconds = f"{ended.seconds:,.0f} s" if ended else f"{each.report.provenance.seconds:,.0f} s" if each.report else ""
    said = tables.headline(each.report.artifacts[-1]) if each.report else each.why
    state = f"{each.state}, before" if each.before else str(each.state)
    memory = show(ended.peak_memory, "bytes") if ended else ""
    return [each.task.name, state, verdict, str(each.tries or ""), seconds, memory, said]


def _job(each: Standing) -> list[str]:
    head = f"## {escape(each.task.name)}"
    if each.report is None:
        return [head, escape(f"{each.state} (exit code {int(each.code or 0)}): {each.why}. From {each.task.source}.")]
    figures, readings = tables.figures(each.report)
    parts = [head, escape(f"In {each.task.output}, from {each.task.source}."), table(figures, readings)]
    judged = tables.targets(each.report)
    return [*parts, table(["verdict", "target", "artifact", "measured"], judged)] if judged else parts


def _data(each: Standing) -> dict[str, Any]:
    found: dict[str, Any] = {
        "name": each.task.name,
        "source": each.task.source,
        "state": str(each.state),
        "before": each.before,
        "exit_code": None if each.code is None else int(each.code),
        "tries": each.tries,
        "output": str(each.task.output),
        "recipe_sha256": each.task.digest,
        "why": each.why,
        "last_try": asdict(each.ended) if each.ended else None,
    }
    if each.report is not None:
        found["figures"] = {
            artifact.name: {reading.metric: reading.value for reading in artifact.readings}
            for artifact in (each.report.original, *each.report.artifacts)
        }
        found["verdicts"] = [
            {"metric": verdict.metric, "bound": verdict.bound, "limit": verdict.limit, "outcome": str(verdict.outcome)}
            for verdict in each.report.verdicts
        ]
    return found
