"""A command that a launcher such as torchrun has started several times: the first does it, the others join in."""

from __future__ import annotations

import os
import traceback
from collections.abc import Callable

from compressit import ranks
from compressit.errors import CompressitError, ExitCode


def run(command: Callable[[], int]) -> int:
    """Do the command or follow the process that does; give the exit code that all of them end with."""
    from compressit.cli.console import complain, tell

    # Each process would warn of a setting of DDP, which is right here: it has to look which weights take part.
    os.environ.setdefault("TORCH_CPP_LOG_LEVEL", "ERROR")
    others, error = None, None
    code: int = ExitCode.BUG
    try:
        others = ranks.connected()
        assert others is not None, "only one of several comes here"
        if others.rank == 0:
            code = command()
        else:
            from compressit.runner.following import follow

            follow(others)
            code = ExitCode.OK
    except CompressitError as met:
        error, code = met, met.exit_code
    except KeyboardInterrupt:
        code = ExitCode.INTERRUPTED
    except SystemExit as met:
        code = int(met.code or 0)
    except Exception:
        tell(traceback.format_exc().rstrip())
    together = False
    if others is not None:
        code, together = others.end(code)
    # The first process tells of an error that another one met, unless it can't.
    if error is not None and not together:
        complain(error)
    return code
