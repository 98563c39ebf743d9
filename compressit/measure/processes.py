"""Processes of their own for measurements: forked where that can be, else started."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

from compressit.errors import CompressitError, ExitCode, StepError

CHILD, FORKING = "compressit.measure.child", "compressit.measure.forking"
QUIET = {
    "TOKENIZERS_PARALLELISM": "false",
    "HF_HUB_DISABLE_PROGRESS_BARS": "1",
    "HF_DATASETS_DISABLE_PROGRESS_BARS": "1",
    # A spinning barrier of one runtime would slow the other, which is timed next to it.
    "OMP_WAIT_POLICY": "PASSIVE",
}
STDERR = "stderr.txt"
"""What a process complained of, in the folder of its job."""


@contextlib.contextmanager
def forks() -> Iterator[str | None]:
    """Start the process that forks others; give its socket, or None on a system where it can't be."""
    if not hasattr(os, "pidfd_open"):
        yield None
        return
    with tempfile.TemporaryDirectory(prefix="compressit-") as folder, contextlib.ExitStack() as stack:
        place = f"{folder}/forks"
        with socket.socket(socket.AF_UNIX) as listening:
            listening.bind(place)
            listening.listen()
            number = listening.fileno()
            process = stack.enter_context(
                subprocess.Popen(
                    [sys.executable, "-m", FORKING, str(number)],
                    env={**os.environ, **QUIET},
                    pass_fds=[number],
                    stdin=subprocess.PIPE,
                    stdout=subprocess.DEVNULL,
                    stderr=subprocess.DEVNULL,
                )
            )
        stack.callback(process.terminate)
        yield place


@contextlib.contextmanager
def begun(job: Mapping[str, Any], scratch: str, what: str) -> Iterator[Callable[[], dict[str, Any]]]:
    """Have a fresh process begin a job; leaving the block ends what still runs of it.

    Gives what waits for its end and tells what it answers, besides the arrays that it leaves in `scratch`. That raises
    CompressitError of the kind that the process met; it says `what` was being done.
    """
    with contextlib.ExitStack() as stack:
        wait = _forked(job, scratch, stack) or _started(job, scratch, stack)
        yield lambda: _answer(wait(), Path(scratch), what)


def in_process(job: Mapping[str, Any], scratch: str, what: str) -> dict[str, Any]:
    """Have a fresh process do a job, as `begun` begins it, to its end."""
    with begun(job, scratch, what) as wait:
        return wait()


def _answer(code: int, scratch: Path, what: str) -> dict[str, Any]:
    """Read what a process said that ended with such a code."""
    answer, stderr = scratch / "answer.json", scratch / STDERR
    said: dict[str, Any] = json.loads(answer.read_text(encoding="utf-8")) if answer.is_file() else {}
    complaint = stderr.read_text(encoding="utf-8", errors="replace") if stderr.is_file() else ""
    stderr.unlink(missing_ok=True)
    if code == 0 and "error" not in said:
        return said
    if "error" in said:
        error = CompressitError(f"{what}: {said['error']}", hint=said["hint"])
        error.exit_code = ExitCode(said["exit_code"])
        raise error
    if code == -signal.SIGKILL:
        raise StepError(
            f"{what} was killed, most likely for want of memory",
            hint="free memory, or measure with a smaller batch_size",
        )
    tail = "\n".join(complaint.strip().splitlines()[-8:])
    raise StepError(f"{what} failed (exit {code}):\n{tail}")


def _forked(job: Mapping[str, Any], scratch: str, stack: contextlib.ExitStack) -> Callable[[], int] | None:
    """Have a job begun by a forked process; give what waits for its exit code, None where nobody forks."""
    forks = job["setting"]["forks"]
    if forks is None:
        return None
    asked = stack.enter_context(socket.socket(socket.AF_UNIX))  # whose end is the end of the process, too
    try:
        asked.connect(forks)
        asked.sendall(json.dumps({"job": job, "scratch": scratch}).encode() + b"\n")
    except OSError:
        return None

    def wait() -> int:
        # Whoever forks may be gone itself: of a signal that was for us as well, or as all else is killed.
        try:
            with asked.makefile(encoding="utf-8") as lines:
                return int(lines.readline() or -signal.SIGKILL)
        except OSError:
            return -signal.SIGKILL

    return wait


def _started(job: Mapping[str, Any], scratch: str, stack: contextlib.ExitStack) -> Callable[[], int]:
    """Have a job begun by a process that is started for it; give what waits for its exit code."""
    with (Path(scratch) / STDERR).open("wb") as complaint:
        process = stack.enter_context(
            subprocess.Popen(
                [sys.executable, "-m", CHILD, scratch],
                env={**os.environ, **QUIET},
                stdin=subprocess.PIPE,
                stdout=subprocess.DEVNULL,
                stderr=complaint,
                text=True,
            )
        )
    stack.callback(process.kill)
    assert process.stdin is not None
    with contextlib.suppress(BrokenPipeError), process.stdin as lines:
        json.dump(job, lines)
    return process.wait
