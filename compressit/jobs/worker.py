"""`python -m compressit.jobs.worker FOLDER SUBMISSION [AGAIN]`: do a try at a job, wherever an engine has put it.

It ends as the job does. SIGTERM, SIGINT and a scheduler's SIGUSR1 are passed on to the job.
"""

from __future__ import annotations

import signal
import sys
import time
from pathlib import Path
from types import FrameType

from compressit import jobs, store
from compressit.errors import IntegrityError
from compressit.jobs import attempt
from compressit.jobs.attempt import Begun
from compressit.store import owners


def main(folder: Path, submission: str, again: int) -> int:
    """Take the try if it is still to be had, and see it to its end."""
    job, lost = attempt.read(folder)
    told: list[int] = []

    def note(number: int, frame: FrameType | None) -> None:
        told.append(number)

    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGUSR1):
        signal.signal(number, note)
    before = attempt.begun(folder)
    begun = Begun(submission, owners.mine())
    if not attempt.begin(folder, begun, again):
        return 0
    if before is not None and before.child is not None:
        lost = (*lost, before.child)
    for owner in lost:
        _await_end(owner)
        store.forget(owner, job.output)
    with jobs.start(job, folder) as running:
        attempt.working(folder, begun, running.pid, again)
        beaten = time.monotonic()
        while (ended := running.poll()) is None:
            while told:
                running.signal(told.pop(0))
            if time.monotonic() - beaten > attempt.BEAT:
                attempt.beat(folder, again)
                beaten = time.monotonic()
            time.sleep(jobs.PAUSE)
    attempt.end(folder, ended)
    return ended.code


def _await_end(owner: str) -> None:
    """Give a process of this host, whose watcher is dead, the time to notice that and end."""
    end = time.monotonic() + jobs.GRACE
    while not owners.elsewhere(owner) and owners.alive(owner) and time.monotonic() < end:
        time.sleep(jobs.PAUSE)


if __name__ == "__main__":
    try:
        raise SystemExit(main(Path(sys.argv[1]), sys.argv[2], int(sys.argv[3]) if len(sys.argv) > 3 else 0))
    except IntegrityError as error:
        raise SystemExit(str(error)) from None
