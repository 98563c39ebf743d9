"""The process that forks one for each measurement, on Linux: what all of them import has been imported here, once.

It computes nothing, so that what it forks is as good as a fresh process. A connection to its socket brings a job, a
line of JSON, and is given the exit code of the process that did it; who hangs up before has it killed. It ends with its
standard input, which the run holds.
"""

from __future__ import annotations

import contextlib
import gc
import importlib
import json
import os
import random
import selectors
import signal
import socket
import sys
import traceback
from dataclasses import dataclass
from pathlib import Path
from types import FrameType
from typing import NoReturn

from compressit.measure import child
from compressit.measure.processes import STDERR

IMPORTED = (
    "torch",
    "transformers",
    # What every model of transformers imports, which takes as long as all the rest.
    "transformers.modeling_layers",
    "transformers.models.auto.modeling_auto",
    "datasets",
    "compressit.runtimes.torch",
)


@dataclass(frozen=True)
class Running:
    """A process at work, its handle, and who waits for it."""

    pid: int
    handle: int
    asked: socket.socket


def main(listening: socket.socket) -> None:
    """Fork a process for each job, until standard input ends or a signal does it."""
    # Ctrl-C is for the run and the processes at work; the run then ends this one.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, _end)
    for name in IMPORTED:
        importlib.import_module(name)
    # Else the collector writes to every page that the processes share.
    gc.collect()
    gc.freeze()
    running: set[Running] = set()
    try:
        _serve(listening, running)
    finally:
        for each in running:
            os.kill(each.pid, signal.SIGKILL)


def _serve(listening: socket.socket, running: set[Running]) -> None:
    with selectors.DefaultSelector() as events:
        events.register(sys.stdin.fileno(), selectors.EVENT_READ)
        events.register(listening, selectors.EVENT_READ)
        while True:
            for key, _ in events.select():
                if key.fileobj is listening:
                    one = _begun(listening)
                    running.add(one)
                    for what in (one.handle, one.asked):
                        events.register(what, selectors.EVENT_READ, one)
                elif key.data is None:
                    return
                elif key.data in running:
                    running.remove(key.data)
                    for what in (key.data.handle, key.data.asked):
                        events.unregister(what)
                    _ended(key.data)


def _begun(listening: socket.socket) -> Running:
    """Fork a process for whoever has called."""
    asked, _ = listening.accept()
    with asked.makefile(encoding="utf-8") as lines:
        line = lines.readline()
    pid = os.fork()
    if pid == 0:
        listening.close()
        _work(line)
    return Running(pid, os.pidfd_open(pid), asked)


def _ended(one: Running) -> None:
    """Say how a process ended; where it hasn't, nobody waits for it any more."""
    os.kill(one.pid, signal.SIGKILL)
    _, status = os.waitpid(one.pid, 0)
    os.close(one.handle)
    with one.asked, contextlib.suppress(OSError):
        one.asked.sendall(f"{os.waitstatus_to_exitcode(status)}\n".encode())


def _work(line: str) -> NoReturn:
    """Do a job as a process of its own would, and end."""
    code = 1
    try:
        signal.signal(signal.SIGINT, signal.default_int_handler)
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
        asked = json.loads(line)
        scratch = Path(asked["scratch"])
        nothing = os.open(os.devnull, os.O_RDWR)
        for number, file in enumerate((nothing, nothing, os.open(scratch / STDERR, os.O_WRONLY | os.O_CREAT))):
            os.dup2(file, number)
        random.seed()
        child.do(asked["job"], scratch)
        code = 0
    except BaseException:
        os.write(2, traceback.format_exc().encode("utf-8", "replace"))
    finally:
        # What the first process has set up to be done at the end is its own.
        os._exit(code)


def _end(number: int, frame: FrameType | None) -> None:
    raise SystemExit


if __name__ == "__main__":
    main(socket.socket(fileno=int(sys.argv[1])))
