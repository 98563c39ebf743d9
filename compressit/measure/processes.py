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
from collections.abc import Iterator, Mapping
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
"""What a forked process complained of, in the folder of its job."""


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


def in_process(job: Mapping[str, Any], scratch: str, what: str) -> dict[str, Any]:
    """Have a fresh process do a job; give what it answers, besides the arrays that it leaves in `scratch`.

    Raises:
        CompressitError: of the kind that the process met; it says `what` was being done.
    """
    code, complaint = _forked(job, scratch) or _started(job, scratch)
    answer = Path(scratch) / "answer.json"
    said: dict[str, Any] = json.loads(answer.read_text(encoding="utf-8")) if answer.is_file() else {}
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


def _forked(job: Mapping[str, Any], scratch: str) -> tuple[int, str] | None:
    """Have a job done by a forked process; give its exit code and what it complained of, None where nobody forks."""
    forks = job["setting"]["forks"]
    if forks is None:
        return None
    with socket.socket(socket.AF_UNIX) as asked:
        try:
            asked.connect(forks)
            asked.sendall(json.dumps({"job": job, "scratch": scratch}).encode() + b"\n")
            with asked.makefile(encoding="utf-8") as lines:
                code = lines.readline()
        except OSError:
            return None
    file = Path(scratch) / STDERR
    complaint = file.read_text(encoding="utf-8", errors="replace") if file.is_file() else ""
    file.unlink(missing_ok=True)
    return (int(code), complaint) if code else None


def _started(job: Mapping[str, Any], scratch: str) -> tuple[int, str]:
    """Have a job done by a process that is started for it; give its exit code and what it complained of."""
    done = subprocess.run(
        [sys.executable, "-m", CHILD, scratch],
        input=json.dumps(job),
        env={**os.environ, **QUIET},
        capture_output=True,
        text=True,
        check=False,
    )
    return done.returncode, done.stderr
