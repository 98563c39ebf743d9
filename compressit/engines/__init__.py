"""Where jobs run, one file for each kind of place.

* `open(address, needs, place, say) -> Engine` takes what stands behind the name, as in `--on NAME:ADDRESS`.
  It raises RecipeError where a job could never run there, MissingExtra where its library isn't installed, and
  RetryableError where it is out of reach; `place` is a folder for what it has to write, `say` takes warnings.

An engine starts `command(...)` for each try at a job and says which still run. It keeps nothing that matters: what was
begun and how it ended stands in the try's folder, which must lie where every machine sees it, under the same path.
"""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from types import ModuleType
from typing import Protocol

from compressit import registry
from compressit.errors import RecipeError

WORKER = "compressit.jobs.worker"
PYTHON = "COMPRESSIT_PYTHON"
"""Environment variable that names the Python of the machines that jobs run on, where it is not the one used here."""


@dataclass(frozen=True)
class Needs:
    """What one job gets.

    Attributes:
        cpus: Processor cores.
        gpus: GPUs; None for one where there are any.
        timeout: Seconds after which it is ended; None for no limit.
    """

    cpus: int = 1
    gpus: int | None = None
    timeout: float | None = None


class Phase(StrEnum):
    """How far an engine is with a try at a job."""

    WAITING = "waiting"
    RUNNING = "running"
    GONE = "gone"


class Engine(Protocol):
    """A place where jobs run.

    Attributes:
        outlives: Whether jobs go on where the process that submitted them ends.
        pause: Seconds between two looks at it.
    """

    outlives: bool
    pause: float

    def submit(self, tries: Sequence[Path]) -> Mapping[Path, str]:
        """Take tries at jobs by their folders, as many as there is room for; give what each is called here."""

    def poll(self, submissions: Collection[str]) -> Mapping[str, Phase]:
        """Say how far tries are, also those that an earlier process submitted.

        Raises:
            RetryableError: the place is out of reach.
        """

    def cancel(self, submission: str) -> None:
        """End a try, or take it from the queue; nothing happens where it is gone."""

    def logs(self, submission: str) -> str:
        """Say what the place itself has to tell of a try, such as why it died."""


def names() -> list[str]:
    """List the engines there are."""
    return registry.names(__name__)


def load(name: str) -> ModuleType:
    """Import an engine by name; LookupError if there is none."""
    return registry.load(__name__, name)


def open(on: str, needs: Needs, place: Path, say: Callable[[str], None]) -> Engine:
    """Open the place that `--on` names, such as local:2, ray+http://head:8265 or slurm.

    Raises:
        RecipeError: there is none of that name, or a job could never run there.
        MissingExtra: its library is not installed.
        RetryableError: it is out of reach.
    """
    name, address = split(on)
    try:
        module = load(name)
    except LookupError as error:
        raise RecipeError(f"--on {on}: {error.args[0]}") from None
    engine: Engine = module.open(address, needs, place, say)
    return engine


def split(on: str) -> tuple[str, str]:
    """Take name and address of an engine apart."""
    found = re.fullmatch(r"([A-Za-z_]+)(?:[:+](.+))?", on)
    if found is None:
        raise RecipeError(f"--on {on}: expected NAME, NAME:ADDRESS or NAME+ADDRESS", hint="for example --on local:2")
    return found[1], found[2] or ""


def command(folder: str, submission: str) -> list[str]:
    """Give what a machine runs for a try at a job."""
    return [*worker(), folder, submission]


def worker() -> list[str]:
    """Give what does tries at jobs; it takes folder, submission and how often a scheduler has begun it before."""
    return [os.environ.get(PYTHON) or sys.executable, "-m", WORKER]
