"""compressit's command line, in a process that begins with what its commands import.

It is forked from one that has imported all of that, so that a command takes the time of its work: a test gains up to
ten seconds. Nothing has been computed there, so that it is as good as a fresh process.
"""

import atexit
import contextlib
import gc
import multiprocessing
import os
import signal
import subprocess
import sys
import tempfile
from pathlib import Path

IMPORTED = [
    "compressit.cli",
    "compressit.runner",
    "compressit.runtimes.torch",
    "datasets",
    "transformers.modeling_layers",
    "transformers.models.auto.modeling_auto",
    "transformers.trainer",
]
TAKEN_ON_IMPORT = ("HF_", "PYTHON", "TRANSFORMERS_")
"""Beginnings of the names of variables that what is imported looks at as it is imported."""
MOST = 300
"""Seconds that a command may take."""


def run(
    arguments: list[str], cwd: Path | None, stdin: str, environment: dict[str, str], forks: str | None
) -> subprocess.CompletedProcess:
    """Run a command to its end; `forks` is the socket of the process that forks those which measure."""
    changed = {name for name in {*environment, *os.environ} if environment.get(name) != os.environ.get(name)}
    if any(name.startswith(TAKEN_ON_IMPORT) for name in changed):
        return subprocess.run(
            [sys.executable, "-m", "compressit", *arguments],
            capture_output=True,
            text=True,
            input=stdin,
            cwd=cwd,
            env=environment,
            timeout=MOST,
            check=False,
        )
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(IMPORTED)
    with tempfile.TemporaryDirectory() as place:
        (Path(place) / "stdin").write_text(stdin, encoding="utf-8")
        process = context.Process(target=_command, args=(arguments, str(cwd or Path.cwd()), place, environment, forks))
        process.start()
        process.join(MOST)
        if process.exitcode is None:
            process.kill()
            raise subprocess.TimeoutExpired(arguments, MOST)
        said = [(Path(place) / name).read_text(encoding="utf-8") for name in ("stdout", "stderr")]
    return subprocess.CompletedProcess(arguments, process.exitcode, *said)


def _command(arguments: list[str], cwd: str, place: str, environment: dict[str, str], forks: str | None) -> None:
    for number, name in enumerate(("stdin", "stdout", "stderr")):
        file = os.open(f"{place}/{name}", os.O_RDWR | os.O_CREAT)
        os.dup2(file, number)
        os.close(file)
    sys.stdin = os.fdopen(0)
    signal.signal(signal.SIGINT, signal.default_int_handler)
    os.chdir(cwd)
    os.environ.clear()
    os.environ.update(environment)
    gc.freeze()
    sys.argv = ["compressit", *arguments]

    from compressit import cli
    from compressit.measure import processes

    if forks is not None:
        processes.forks = lambda: contextlib.nullcontext(forks)
    try:
        cli.main()
    finally:
        atexit._run_exitfuncs()
