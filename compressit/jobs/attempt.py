"""One try at a job, as files in a folder that whoever waits for it and whoever does it both see.

Everything is written whole or not at all, so either may be killed at any moment. Who may begin is decided by
`begun.N.json`, which only one of two can make; N counts how often a scheduler has begun the same try again.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from compressit.errors import IntegrityError
from compressit.jobs import RECIPE, Ended, Job
from compressit.store import address, owners, place

JOB, SUBMITTED, ENDED = "job.json", "submitted.json", "ended.json"
NOBODY = "nobody"
BEAT = 10
"""Seconds after which whoever is at a try says so again."""


@dataclass(frozen=True)
class Begun:
    """Who is at it.

    Attributes:
        submission: What the engine calls the try.
        worker: The process that watches over it, as `store.owners` names it; "nobody" where the try was given up.
        child: The process that applies the recipe; None before it runs.
    """

    submission: str
    worker: str
    child: str | None = None


def write(folder: Path, job: Job, lost: Sequence[str] = ()) -> None:
    """Write down what is to be done.

    Args:
        folder: Of the try; made here.
        job: What to do.
        lost: Processes that are known to be dead, whose unfinished work may be taken over.
    """
    folder.mkdir(parents=True, exist_ok=True)
    _put(folder / RECIPE, job.recipe)
    said = {
        "sha256": job.sha256,
        "output": address(job.output),
        "flags": job.flags,
        "timeout": job.timeout,
        "lost": lost,
    }
    _put_json(folder / JOB, said)


def read(folder: Path) -> tuple[Job, tuple[str, ...]]:
    """Read what is to be done, and which processes are known to be dead.

    Raises:
        IntegrityError: the folder holds no job, or one that can't be read.
    """
    try:
        said = json.loads((folder / JOB).read_text(encoding="utf-8"))
        recipe = (folder / RECIPE).read_bytes()
        job = Job(recipe, said["sha256"], place(said["output"]), tuple(said["flags"]), said["timeout"])
        return job, tuple(said["lost"])
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise IntegrityError(
            f"{folder} holds no job that can be read: {error}",
            hint="the folder of a batch must lie on storage that every machine sees, under the same path",
        ) from error


def submit(folder: Path, engine: str, submission: str) -> None:
    """Note what an engine calls the try."""
    _put_json(folder / SUBMITTED, {"engine": engine, "submission": submission})


def submitted(folder: Path) -> tuple[str, str] | None:
    """Give the engine and what it calls the try; None if it was not submitted."""
    said = _get(folder / SUBMITTED)
    return None if said is None else (said["engine"], said["submission"])


def begin(folder: Path, begun: Begun, again: int = 0) -> bool:
    """Take the try; False if somebody else has."""
    file = folder / f"begun.{again}.json"
    half = folder / f".begun.{owners.mine()}"
    half.write_text(json.dumps(asdict(begun)), encoding="utf-8")
    try:
        os.link(half, file)
    except FileExistsError:
        return False
    finally:
        half.unlink()
    # A try that is begun again has not ended, whatever was said of it before.
    if again:
        (folder / ENDED).unlink(missing_ok=True)
    return True


def working(folder: Path, begun: Begun, child: int, again: int = 0) -> None:
    """Note the process that applies the recipe."""
    _put_json(folder / f"begun.{again}.json", asdict(replace(begun, child=owners.of(child))))


def beat(folder: Path, again: int = 0) -> None:
    """Say that somebody is still at it, to other hosts, which can't see processes of this one."""
    with suppress(OSError):
        os.utime(folder / f"begun.{again}.json")


def heard(folder: Path) -> float:
    """Give the time, by the clock of the storage, at which somebody last was at it."""
    return max((file.stat().st_mtime for file in folder.glob("begun.*.json")), default=0.0)


def begun(folder: Path) -> Begun | None:
    """Say who has begun it last."""
    counts = [int(part) for file in folder.glob("begun.*.json") if (part := file.name.split(".")[1]).isdigit()]
    said = _get(folder / f"begun.{max(counts)}.json") if counts else None
    return None if said is None else Begun(**said)


def give_up(folder: Path) -> bool:
    """Keep a try from being begun; False if it has been."""
    return begun(folder) is None and begin(folder, Begun("", NOBODY))


def end(folder: Path, ended: Ended) -> None:
    """Note how it ended."""
    _put_json(folder / ENDED, asdict(ended))


def ended(folder: Path) -> Ended | None:
    """Say how it ended; None if nobody has noted it."""
    said = _get(folder / ENDED)
    return None if said is None else Ended(**said)


def _get(file: Path) -> dict[str, Any] | None:
    with suppress(OSError):
        said: dict[str, Any] = json.loads(file.read_text(encoding="utf-8"))
        return said
    return None


def _put_json(file: Path, said: Mapping[str, Any]) -> None:
    _put(file, json.dumps(said).encode())


def _put(file: Path, content: bytes) -> None:
    half = file.with_name(f".{file.name}.{owners.mine()}")
    half.write_bytes(content)
    os.replace(half, file)
