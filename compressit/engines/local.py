"""This machine: `--on local:2` does two jobs at once; where it has GPUs, each gets its own.

As many jobs at once as `:N` says (default: as many as GPUs can be shared out to, one without any), each with its share
of the machine (`jobs.shares`). Jobs end with the batch that runs them; where that was killed hard, they go on, and the
next one finds them again.
"""

from __future__ import annotations

import os
import signal
import subprocess
import time
from collections.abc import Callable, Collection, Mapping, Sequence
from contextlib import suppress
from pathlib import Path

from compressit.engines import Needs, Phase, command
from compressit.errors import RecipeError, RetryableError
from compressit.jobs import attempt, shares
from compressit.store import owners

PATIENCE = 180.0
"""Seconds after which a batch on another host that shared this storage, and says nothing, is held to be dead."""


def open(address: str, needs: Needs, place: Path, say: Callable[[str], None]) -> Local:
    """Share out this machine."""
    if address and not (address.isdecimal() and 0 < int(address) <= 1000):
        raise RecipeError(f"--on local:{address}: expected a number of jobs at once", hint="for example --on local:2")
    asked = int(address) if address else None
    return Local(shares.share(asked, say, gpus=needs.gpus, cpus=needs.cpus))


class Local:
    """Slots, each with its share of the machine. A try is called SLOT@FOLDER."""

    outlives = False
    pause = 0.2

    def __init__(self, slots: Sequence[shares.Share]) -> None:
        self._slots = slots
        self._taken: set[str] = set()
        self._started: dict[str, subprocess.Popen[bytes]] = {}
        self._heard: dict[Path, tuple[float, float]] = {}

    def submit(self, tries: Sequence[Path]) -> Mapping[Path, str]:
        """Start as many as there are slots."""
        found = {}
        self._taken = {name for name in self._taken if self._phase(name) is not Phase.GONE}
        busy = {int(name.partition("@")[0]) for name in self._taken}
        free = [slot for slot in range(len(self._slots)) if slot not in busy]
        # Those that an earlier batch began with more slots count, too.
        room = max(0, len(self._slots) - len(self._taken))
        for slot, folder in zip(free[:room], tries, strict=False):
            name = f"{slot}@{folder.resolve()}"
            self._start(slot, folder, name)
            found[folder] = name
        return found

    def poll(self, submissions: Collection[str]) -> Mapping[str, Phase]:
        """Look at the tries' folders and their processes."""
        found = {name: self._phase(name) for name in submissions}
        self._taken = {name for name in self._taken | found.keys() if self._phase(name) is not Phase.GONE}
        return found

    def cancel(self, submission: str) -> None:
        """Tell the process that watches over a try to end it."""
        folder = Path(submission.partition("@")[2])
        begun = attempt.begun(folder)
        if begun is not None and attempt.ended(folder) is None and not owners.elsewhere(begun.worker):
            pid = owners.pid(begun.worker)
            if owners.alive(begun.worker) and pid:
                with suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGTERM)

    def logs(self, submission: str) -> str:
        """Say how the process that watched over a try ended."""
        process = self._started.get(submission)
        code = process.poll() if process is not None else None
        return "" if code is None else f"its process ended with exit code {code}"

    def _start(self, slot: int, folder: Path, name: str) -> None:
        with (folder / "worker.txt").open("ab") as log:
            try:
                self._started[name] = subprocess.Popen(
                    command(str(folder.resolve()), name),
                    stdin=subprocess.DEVNULL,
                    stdout=log,
                    stderr=log,
                    env={**os.environ, **self._slots[slot]},
                    start_new_session=True,
                )
            except OSError as error:
                raise RetryableError(f"no process can be started: {error.strerror or error}") from error
        self._taken.add(name)

    def _phase(self, name: str) -> Phase:
        folder = Path(name.partition("@")[2])
        process = self._started.get(name)
        running = process is not None and process.poll() is None
        if attempt.ended(folder) is not None:
            return Phase.RUNNING if running else Phase.GONE
        begun = attempt.begun(folder)
        if begun is None:
            return Phase.WAITING if running else Phase.GONE
        lives = begun.worker != attempt.NOBODY and owners.alive(begun.worker)
        if lives and owners.elsewhere(begun.worker):
            lives = self._speaks(folder)
        return Phase.RUNNING if lives else Phase.GONE

    def _speaks(self, folder: Path) -> bool:
        """Tell whether a process of another host is still at it, by this host's clock and the other's word."""
        last = attempt.heard(folder)
        if self._heard.get(folder, (0.0,))[0] != last:
            self._heard[folder] = last, time.monotonic()
        return time.monotonic() - self._heard[folder][1] < PATIENCE
