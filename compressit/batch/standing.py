"""Files -> how a job stands: its result if it has one, or else its last try."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path

from compressit import recipe, report, store
from compressit.batch import CANCELLED, Standing, State, Task, code, job, tries
from compressit.errors import CompressitError, ExitCode, IntegrityError, RecipeError, RetryableError
from compressit.jobs import LOG, Ended, attempt
from compressit.recipe import Problem, RecipeProblems
from compressit.recipe.problems import Place
from compressit.report import Report
from compressit.report.files import RECIPE
from compressit.store import owners

TOLD = 300
"""Characters of an engine's own word that are told."""
TAIL = 4096
"""Bytes of a log that are looked at for its last line."""


class Kind(StrEnum):
    """What lies where a result goes."""

    NOTHING = "nothing"
    OURS = "ours"
    OTHERS = "others"
    SPOILT = "spoilt"


@dataclass(frozen=True)
class Found:
    """What lies where a job's result goes, and why it is not the job's where it isn't."""

    kind: Kind
    report: Report | None = None
    why: str = ""


def result(task: Task, *, deep: bool = True) -> Found:
    """Look for a job's result.

    Args:
        task: The job.
        deep: Compare every file with the manifest.
    """
    place = task.output
    if isinstance(place, store.Remote):
        return _away(task, place)
    if not place.is_dir() or not any(place.iterdir()):
        return Found(Kind.NOTHING)
    return _found(task, place, str(place), deep=deep)


def _away(task: Task, place: store.Remote) -> Found:
    """Look behind a URL, where sizes have to do.

    Raises:
        RetryableError: it is out of reach.
    """
    try:
        if store.empty(place):
            return Found(Kind.NOTHING)
        with store.glimpsed(place, {RECIPE, report.FILE}) as folder:
            return _found(task, folder, str(place), deep=False)
    except RetryableError:
        raise
    except IntegrityError as error:
        return Found(Kind.SPOILT, why=error.message)
    except CompressitError as error:
        return Found(Kind.OTHERS, why=error.message)


def _found(task: Task, folder: Path, called: str, *, deep: bool) -> Found:
    try:
        about = store.manifest(folder)
    except CompressitError as error:
        return Found(Kind.OTHERS, why=error.message)
    try:
        if deep:
            store.check(folder)
        if task.digest not in (about.get("recipe_sha256"), _as_run(folder)):
            return Found(Kind.OTHERS, why=f"{called} holds the result of another recipe")
        return Found(Kind.OURS, report.read(folder))
    except CompressitError as error:
        return Found(Kind.SPOILT, why=error.message)


def _as_run(folder: Path) -> str:
    """Digest of a result's recipe with absolute paths, as `apply` writes it there, by whatever paths it was run."""
    try:
        return recipe.digest(recipe.load(folder / RECIPE).recipe)
    except CompressitError:
        return ""


def refuse(chosen: Sequence[Task], *, overwrite: bool) -> None:
    """Raise RecipeProblems where something stands in a job's way that isn't its result; all of them at once."""
    problems = []
    for task in chosen:
        found = result(task)
        if found.kind in (Kind.NOTHING, Kind.OURS):
            continue
        hint = "--overwrite does it again" if found.kind is Kind.SPOILT else "--overwrite replaces it"
        try:
            store.check_target(task.output, overwrite=overwrite)
            continue
        except RecipeError as error:
            message = found.why if found.kind is Kind.SPOILT else error.message
        except CompressitError as error:
            message, hint = error.message, "move it away, or choose another folder with -o"
        problems.append(Problem(f"{task.name}: {message}", Place(str(task.output), 1, 1), hint, ""))
    if problems:
        raise RecipeProblems(problems)


def cancelled(folder: Path, task: Task) -> bool:
    """Tell whether somebody wants a job to end."""
    return (job(folder, task.name) / CANCELLED).exists()


def done(task: Task, found: Found, made: Sequence[Path], *, before: bool = False) -> Standing:
    """Say that a job has its result."""
    assert found.report is not None, "a result of ours has its report"
    ends = (attempt.ended(each) for each in reversed(made))
    last = next((ended for ended in ends if ended is not None and ended.finished), None)
    return Standing(task, State.DONE, len(made), found.report.exit_code, last, found.report, before=before)


def failed(task: Task, ended: Ended, made: Sequence[Path]) -> Standing:
    """Say that a job ended without a result."""
    why = f"its time was over after {ended.seconds:,.0f} s" if ended.timed_out else last_line(made[-1] / LOG)
    if ended.signal is not None and not ended.timed_out:
        why = f"signal {ended.signal} ended it; the last it said: {why}"
    number = ExitCode.FAILED if ended.timed_out else code(ended.code)
    if ended.passing:
        number = ExitCode.RETRY
    return Standing(task, State.FAILED, len(made), number, ended, why=why)


def lost(task: Task, made: Sequence[Path], why: str) -> Standing:
    """Say that whoever did a job is gone."""
    short = " ".join(why.split())[:TOLD] or "whoever did it is gone without a word"
    return Standing(task, State.LOST, len(made), ExitCode.RETRY, why=short)


def stopped(task: Task, made: Sequence[Path]) -> Standing:
    """Say that somebody ended a job."""
    return Standing(task, State.CANCELLED, len(made), ExitCode.INTERRUPTED, why="cancelled")


def now(folder: Path, task: Task) -> Standing:
    """Say how a job stands by its files alone; of another host's processes they don't tell whether they live."""
    made = tries(folder, task)
    found = result(task, deep=False)
    if found.kind is Kind.OURS:
        return done(task, found, made)
    last = made[-1] if made else None
    ended = attempt.ended(last) if last else None
    begun = attempt.begun(last) if last else None
    running = begun is not None and ended is None and begun.worker != attempt.NOBODY
    if begun is not None and running and owners.alive(begun.worker):
        assert last is not None, "it was begun"
        return Standing(task, State.RUNNING, len(made), why=last_line(last / LOG))
    if cancelled(folder, task):
        return stopped(task, made)
    if ended is not None:
        return failed(task, ended, made)
    return lost(task, made, "") if running else Standing(task, State.WAITING, len(made))


def last_line(file: Path) -> str:
    """Give the last line of a log."""
    try:
        with file.open("rb") as stream:
            stream.seek(max(0, os.fstat(stream.fileno()).st_size - TAIL))
            lines = stream.read().decode(errors="replace").splitlines()
    except OSError:
        return ""
    said = [line.strip() for line in lines if line.strip()]
    errors = [line for line in said if "error:" in line]
    return (errors or said or [""])[-1][:200]
