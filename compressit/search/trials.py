"""One trial: a recipe with everything filled in, run by a process of its own on the tuning split, and what came of it.

Its folder goes by the recipe's digest: what was tried once is never tried again, and a search that was
killed reads what its trials had found.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from compressit import jobs, recipe, store
from compressit import report as reports
from compressit.jobs.shares import Share
from compressit.recipe import Open, Written
from compressit.recipe.document import override
from compressit.recipe.problems import clean
from compressit.report import Report

RESULT = "result"
TAIL = 2000
"""Bytes of a log's end that are looked at for what went wrong."""


@dataclass(frozen=True)
class Place:
    """Where trials run, and how.

    Attributes:
        folder: Of the search.
        flags: Arguments of `compressit apply` that every trial gets.
        timeout: Seconds until a trial is ended; None for no limit.
    """

    folder: Path
    flags: tuple[str, ...] = ()
    timeout: float | None = None


@dataclass(frozen=True)
class Tried:
    """What came of a trial.

    Attributes:
        digest: Of its recipe.
        report: None where it died.
        why: What it said last, then.
        passing: It died of something that may be over the next time.
    """

    digest: str
    report: Report | None
    why: str = ""
    passing: bool = False


def set_to(found: Open, values: Mapping[str, Any]) -> Written:
    """Give the recipe with values set: those of its ranges, or of any other place of it."""
    if found.ranges:
        return found.filled(values)
    assignments = tuple(f"{name}={json.dumps(value)}" for name, value in values.items())
    return Open(override(found.document, assignments), (), found.base).filled({})


def on_tuning(written: Written) -> Written:
    """Give a recipe that is judged on the tuning split."""
    run = written.recipe
    assert run.search is not None, "checked before the first trial"
    assert run.dataset is not None, "checked before the first trial"
    dataset = run.dataset.model_copy(update={"evaluation": run.search.tuning})
    # What the original is expected to reach is about the evaluation split.
    changed = run.model_copy(update={"dataset": dataset, "search": None, "expect": ()})
    return Written(changed, written.document, written.base)


def folder(place: Place, written: Written) -> Path:
    """Give a trial's folder."""
    return place.folder / "trials" / recipe.digest(written.recipe)[:16]


@contextmanager
def begun(place: Place, written: Written, share: Share | None = None) -> Iterator[Callable[[], Tried | None]]:
    """Begin a trial, unless it was run to its end before; leaving the block ends it.

    Only the report stays of it: what its steps made is in the cache, as of any run.

    Args:
        place: Where.
        written: What.
        share: Of the machine (default: all that this process has).

    Returns:
        Tells what came of it, or None as long as it runs.
    """
    digest = recipe.digest(written.recipe)
    own = folder(place, written)
    if (own / reports.FILE).is_file():
        found = Tried(digest, reports.read(own))
        yield lambda: found
        return
    text = recipe.text(recipe.anchored(written.recipe, written.base)).encode()
    flags = ("--no-waterfall", "--overwrite", *place.flags)
    job = jobs.Job(text, hashlib.sha256(text).hexdigest(), own / RESULT, flags, place.timeout)
    with suppress(OSError):
        (own / jobs.LOG).unlink()
    with jobs.start(job, own, share) as running:
        yield lambda: None if (ended := running.poll()) is None else _read(own, digest, ended)


def _read(own: Path, digest: str, ended: jobs.Ended) -> Tried:
    """Take the report out of a result, and let go of the rest."""
    if not ended.finished:
        return Tried(digest, None, _why(own / jobs.LOG, ended), ended.passing)
    found = reports.read(own / RESULT)
    with store.written(own / reports.FILE, overwrite=True) as stream:
        stream.write((own / RESULT / reports.FILE).read_text(encoding="utf-8"))
    store.discard(own / RESULT)
    return Tried(digest, found)


def _why(log: Path, ended: jobs.Ended) -> str:
    """Say what a trial died of."""
    if ended.timed_out:
        return f"its time was over after {ended.seconds:,.0f} s"
    said = _said(log)
    if ended.signal is not None:
        return f"signal {ended.signal} ended it" + (f"; the last it said: {said}" if said else "")
    return said or f"it ended with exit code {ended.code}"


def _said(log: Path) -> str:
    """Find the last error in a log, or else its last line."""
    with suppress(OSError):
        lines = [
            line.strip() for line in log.read_bytes()[-TAIL:].decode(errors="replace").splitlines() if line.strip()
        ]
        errors = [line for line in lines if "error: " in line.lower()]
        return clean((errors or lines or [""])[-1].partition("error: ")[2] or (lines or [""])[-1])[:300]
    return ""
