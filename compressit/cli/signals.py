"""What a signal makes of a command: SIGTERM, Ctrl-C and a scheduler's SIGUSR1 end it, and none of them is lost."""

from __future__ import annotations

import functools
import signal
import sys
import threading
from collections.abc import Callable
from types import FrameType
from typing import Any, NoReturn

from compressit import ranks
from compressit.errors import ExitCode

AGAIN = 0.05
"""Seconds until what was dropped is raised once more."""


def heed() -> None:
    """Have signals end the command, in the main thread.

    Python drops what a signal raises while an object is torn down or a callback runs, and says so to
    `sys.unraisablehook` alone; it is raised again soon after.
    """
    signal.signal(signal.SIGTERM, _terminate)
    if hasattr(signal, "SIGUSR1"):
        signal.signal(signal.SIGUSR1, _warn)
    if hasattr(signal, "setitimer"):
        sys.unraisablehook = functools.partial(_dropped, sys.unraisablehook)


def _terminate(number: int, frame: FrameType | None) -> NoReturn:
    # Whoever ends a whole tree of processes may say so twice; tidying up is not to be interrupted.
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    if ranks.leads():
        sys.stderr.write("terminated; nothing was published half done. Run the same command again to go on\n")
    sys.exit(int(ExitCode.TERMINATED))


def _warn(number: int, frame: FrameType | None) -> NoReturn:
    """Stop before a scheduler takes the machine away, in time to say so."""
    if ranks.leads():
        sys.stderr.write("stopped by SIGUSR1; nothing was published half done. Run the same command again to go on\n")
    sys.exit(int(ExitCode.RETRY))


def _dropped(otherwise: Callable[[Any], Any], what: Any) -> None:
    """Raise it again where it ends the command."""
    ours = isinstance(what.exc_value, SystemExit | KeyboardInterrupt)
    if not ours or threading.current_thread() is not threading.main_thread():
        otherwise(what)
        return

    def again(number: int, frame: FrameType | None) -> NoReturn:
        raise what.exc_value

    # Not here: what this function raises is dropped as well.
    signal.signal(signal.SIGALRM, again)
    signal.setitimer(signal.ITIMER_REAL, AGAIN)
