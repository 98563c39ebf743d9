"""Many recipes as one: what is to be done, what is done, and what became of it all.

A batch is a folder, `runs/.batches/NAME`::

    batch.json                     what was asked for last
    jobs/JOB/SHA/recipe.yaml       ... of the job whose recipe has this SHA-256
    jobs/JOB/SHA/1, 2, ...         its tries, each as `jobs.attempt` lays it out
    jobs/JOB/cancelled             somebody wants it to end
    report.md, report.json, ...    all results side by side

Nothing else is remembered. Whoever looks, in this process or another, finds out from these files and the results.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterable
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Any

from compressit import store
from compressit.errors import CompressitError, ExitCode, RecipeError
from compressit.jobs import Ended
from compressit.report import Report

PLACE = ".batches"
FORMAT = 1
BATCH, CANCELLED = "batch.json", "cancelled"

WORST = (
    ExitCode.BUG, ExitCode.UNSAFE, ExitCode.INTEGRITY, ExitCode.FAILED, ExitCode.RECIPE, ExitCode.INTERRUPTED,
    ExitCode.RETRY, ExitCode.TARGET_MISSED, ExitCode.INCONCLUSIVE, ExitCode.OK,
)  # fmt: skip
"""Exit codes of jobs, the one that needs somebody most first; the batch ends with the first of them that a job has."""


@dataclass(frozen=True)
class Task:
    """One job of a batch.

    Attributes:
        name: Of the job, its recipe and its result.
        source: Where it comes from, for people: a file, and what was changed in it.
        recipe: The recipe's bytes, with every path absolute.
        sha256: Of the bytes.
        digest: Of the recipe's content, as a result's manifest says it.
        output: Folder of the result, here or behind a URL.
        timed: Something is measured in it that other work on the machine disturbs.
    """

    name: str
    source: str
    recipe: bytes
    sha256: str
    digest: str
    output: Path | store.Remote
    timed: bool = False


class State(StrEnum):
    """How far a job is."""

    WAITING = "waiting"
    RUNNING = "running"
    DONE = "done"
    FAILED = "failed"
    LOST = "lost"
    CANCELLED = "cancelled"

    @property
    def over(self) -> bool:
        """Whether nothing more comes of it in this batch."""
        return self not in (State.WAITING, State.RUNNING)


@dataclass(frozen=True)
class Standing:
    """How a job stands.

    Attributes:
        tries: How often it was begun with this recipe.
        code: What it says to a shell, once it is over.
        ended: How its last try ended.
        report: Its result.
        why: A word on what went wrong, or on what it is at.
        before: Done by an earlier batch.
    """

    task: Task
    state: State
    tries: int = 0
    code: ExitCode | None = None
    ended: Ended | None = None
    report: Report | None = None
    why: str = ""
    before: bool = False

    @property
    def may_go_on(self) -> bool:
        """Whether something may come of it without anybody's doing: a scheduler begins again what was only stopped."""
        stopped = self.state is State.FAILED and self.ended is not None and self.ended.passing
        return not self.state.over or self.state is State.LOST or stopped


def worst(codes: Iterable[ExitCode]) -> ExitCode:
    """Choose the exit code of a batch."""
    found = set(codes)
    return next((code for code in WORST if code in found), ExitCode.OK)


def code(number: int) -> ExitCode:
    """Take a process's exit code for one of ours: terminated is to be tried again, anything strange is a failure."""
    if number == ExitCode.TERMINATED:
        return ExitCode.RETRY
    return ExitCode(number) if number in set(ExitCode) else ExitCode.FAILED


def place(results: Path, name: str) -> Path:
    """Give the folder of a batch."""
    return results / PLACE / name


def job(folder: Path, name: str) -> Path:
    """Give the folder of a job."""
    return folder / "jobs" / name


def tries(folder: Path, task: Task) -> list[Path]:
    """List the folders of a job's tries with this very recipe, the first one first."""
    found = (job(folder, task.name) / task.sha256[:16]).glob("[0-9]*")
    return sorted((each for each in found if each.name.isdecimal()), key=lambda each: int(each.name))


def write(folder: Path, tasks: Iterable[Task], on: str) -> None:
    """Note what is asked for."""
    said = [
        {"name": each.name, "source": each.source, "sha256": each.sha256, "digest": each.digest,
         "output": store.address(each.output)}
        for each in tasks
    ]  # fmt: skip
    for each in tasks:
        own = job(folder, each.name) / each.sha256[:16]
        own.mkdir(parents=True, exist_ok=True)
        _put(own / "recipe.yaml", each.recipe)
    _put(folder / BATCH, json.dumps({"format": FORMAT, "on": on, "jobs": said}, indent=1).encode())


def read(folder: Path) -> tuple[list[Task], str]:
    """Read what was asked for, and of which engine.

    Raises:
        RecipeError: there is no such batch.
        CompressitError: its notes can't be read.
    """
    if not (folder / BATCH).is_file():
        there = sorted(file.parent.name for file in folder.parent.glob(f"*/{BATCH}"))
        hint = f"there are: {', '.join(there)}" if there else "none was run from here; -o names the folder of results"
        raise RecipeError(f"there is no batch {folder.name} in {folder.parent}", hint=hint)
    try:
        said: dict[str, Any] = json.loads((folder / BATCH).read_text(encoding="utf-8"))
        return [_task(folder, each) for each in said["jobs"]], said["on"]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise CompressitError(f"{folder / BATCH} can't be read: {error}", hint="run the batch again") from error


def _task(folder: Path, said: dict[str, str]) -> Task:
    recipe = (job(folder, said["name"]) / said["sha256"][:16] / "recipe.yaml").read_bytes()
    return Task(said["name"], said["source"], recipe, said["sha256"], said["digest"], store.place(said["output"]))


def _put(file: Path, content: bytes) -> None:
    half = file.with_name(f".{file.name}.{os.getpid()}")
    half.write_bytes(content)
    os.replace(half, file)
