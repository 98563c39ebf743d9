"""`python -m compressit.jobs.child PARENT ...`: compressit, which ends when the process that started it does."""

from __future__ import annotations

import ctypes
import os
import runpy
import signal
import sys

from compressit.errors import ExitCode

PR_SET_PDEATHSIG = 1


def main() -> None:
    """Run the command line that is left of the arguments."""
    parent = int(sys.argv.pop(1))
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGTERM)
        if os.getppid() != parent:  # it died before it could be asked for
            raise SystemExit(int(ExitCode.TERMINATED))
    runpy.run_module("compressit", run_name="__main__", alter_sys=True)


if __name__ == "__main__":
    main()
