"""One recipe, applied by a `compressit apply` of its own: what a batch and a search are made of.

A job is bytes and their SHA-256, never an object that one process made and another trusts. It runs in a process group
of its own, which ends with whoever started it, at its time limit, or when it is told to.
"""

from __future__ import annotations

import hashlib
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from compressit.errors import ExitCode, IntegrityError
from compressit.store import Remote, address

CHILD = "compressit.jobs.child"
RECIPE, LOG = "recipe.yaml", "log.txt"
PAUSE = 0.1
"""Seconds between two looks at a job."""
GRACE = 20.0
"""Seconds from a polite end to a hard one."""
PASSING = frozenset({signal.SIGHUP, signal.SIGKILL, signal.SIGTERM, signal.SIGUSR1})
"""Signals by which a machine, and not a bug, ends a process: it shuts down, or has no memory left."""


@dataclass(frozen=True)
class Job:
    """A recipe to be applied.

    Attributes:
        recipe: Its YAML, with absolute paths (`recipe.anchored`), for it is read from another folder.
        sha256: Of those bytes, as whoever made them knows it.
        output: Folder of the result, here or behind a URL.
        flags: Further arguments of `compressit apply`.
        timeout: Seconds until it is ended; None for no limit.
    """

    recipe: bytes
    sha256: str
    output: Path | Remote
    flags: tuple[str, ...] = ()
    timeout: float | None = None


@dataclass(frozen=True)
class Ended:
    """How a job ended.

    Attributes:
        code: Exit code; 128 and the signal's number where one ended it, as shells say it.
        signal: The signal that ended it, if one did.
        timed_out: Its time was over.
        seconds: How long it took.
        peak_memory: Bytes that the largest of its processes had.
    """

    code: int
    signal: int | None
    timed_out: bool
    seconds: float
    peak_memory: int

    @property
    def finished(self) -> bool:
        """Whether there is a result, whatever its targets say of it."""
        return self.code in (ExitCode.OK, ExitCode.TARGET_MISSED, ExitCode.INCONCLUSIVE)

    @property
    def passing(self) -> bool:
        """Whether it died of something that may be over the next time; a time limit is no such thing."""
        died = self.signal in PASSING or self.code in (ExitCode.RETRY, ExitCode.TERMINATED)
        return died and not self.timed_out


def run(job: Job, folder: Path, environment: Mapping[str, str] | None = None) -> Ended:
    """Do a job to its end, as `start` begins it."""
    with start(job, folder, environment) as running:
        while (ended := running.poll()) is None:
            time.sleep(PAUSE)
    return ended


@contextmanager
def start(job: Job, folder: Path, environment: Mapping[str, str] | None = None) -> Iterator[Running]:
    """Begin a job; leaving the block ends what still runs of it.

    Linux ends it with the thread that started it, too, even where that is killed.

    Args:
        job: What to do.
        folder: The job's own; gets recipe.yaml and log.txt, all that it printed.
        environment: Variables to set for it besides those of this process.

    Raises:
        IntegrityError: the recipe's bytes are not those that the SHA-256 is of.
    """
    found = hashlib.sha256(job.recipe).hexdigest()
    if found != job.sha256:
        raise IntegrityError(f"the recipe for {job.output} has SHA-256 {found}, not {job.sha256}")
    folder.mkdir(parents=True, exist_ok=True)
    file = folder / RECIPE
    if not file.is_file() or file.read_bytes() != job.recipe:
        file.write_bytes(job.recipe)
    command = [sys.executable, "-m", CHILD, str(os.getpid()), "apply", str(file.resolve())]
    command += ["--output", address(job.output), *job.flags]
    with (folder / LOG).open("ab") as log:
        process = subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            env={**os.environ, **(environment or {})},
            start_new_session=True,
        )
    running = Running(process, job.timeout)
    try:
        yield running
    finally:
        running.end()


class Running:
    """A job that was begun."""

    def __init__(self, process: subprocess.Popen[bytes], timeout: float | None) -> None:
        self.pid = process.pid
        self._process = process
        self._begun = time.monotonic()
        self._deadline = None if timeout is None else self._begun + timeout
        self._killed: float | None = None
        self._timed_out = False
        self._ended: Ended | None = None

    def poll(self) -> Ended | None:
        """Tell how it ended, or None as long as it runs; also keeps its time limit."""
        if self._ended is None:
            self._collect()
        if self._ended is None:
            now = time.monotonic()
            if self._deadline is not None and now >= self._deadline and not self._timed_out:
                self._timed_out = True
                self.signal(signal.SIGTERM)
            if self._killed is not None and now >= self._killed:
                self.signal(signal.SIGKILL)
        return self._ended

    def signal(self, number: int) -> None:
        """Send a signal to all of its processes; SIGTERM is followed by SIGKILL if it doesn't help."""
        if self._ended is not None:
            return
        if number == signal.SIGTERM and self._killed is None:
            self._killed = time.monotonic() + GRACE
        with suppress(ProcessLookupError, PermissionError):
            os.killpg(self.pid, number)

    def end(self) -> Ended:
        """End it, if it still runs."""
        if self.poll() is None:
            self.signal(signal.SIGTERM)
        while (ended := self.poll()) is None:
            time.sleep(PAUSE)
        return ended

    def _collect(self) -> None:
        pid, status, used = os.wait4(self.pid, os.WNOHANG)
        if not pid:
            return
        # What it has left running, such as a measurement that is under way.
        with suppress(ProcessLookupError, PermissionError):
            os.killpg(self.pid, signal.SIGKILL)
        code = os.waitstatus_to_exitcode(status)
        self._process.returncode = code
        number = -code if code < 0 else None
        self._ended = Ended(
            code=code if number is None else 128 + number,
            signal=number,
            timed_out=self._timed_out,
            seconds=round(time.monotonic() - self._begun, 3),
            peak_memory=used.ru_maxrss * (1 if sys.platform == "darwin" else 1024),
        )
