"""Slurm, through one array job for what is to be done: `--on slurm`; `--dry-run` prints the script.

What else a job needs, sbatch takes from its own environment variables (SBATCH_PARTITION, SBATCH_ACCOUNT, SBATCH_QOS).
Tasks are put back into the queue where they are preempted or their node fails, and where they ended with 75: a minute
before the time is over Slurm sends SIGUSR1, on which compressit keeps what it has and ends so. The batch's folder, the
results and the cache (COMPRESSIT_CACHE) must lie on storage that every node sees.
"""

from __future__ import annotations

import getpass
import math
import shlex
import shutil
import subprocess
import tempfile
from collections.abc import Callable, Collection, Mapping, Sequence
from pathlib import Path

from compressit.engines import Needs, Phase, worker
from compressit.errors import ExitCode, RecipeError, RetryableError

WARNED = 60
"""Seconds before the end of its time at which a task is warned."""
AGAIN = 5
"""How often a task is put back into the queue after it ended with 75."""
RUNNING = ("RUNNING", "COMPLETING", "STOPPED", "SUSPENDED", "SIGNALING", "STAGE_OUT")


def open(address: str, needs: Needs, place: Path, say: Callable[[str], None]) -> Slurm:
    """Make sure that sbatch is here and takes such a job."""
    if address:
        raise RecipeError(f"--on slurm:{address}: slurm takes no address", hint="set SBATCH_PARTITION and the like")
    if shutil.which("sbatch") is None:
        raise RecipeError("--on slurm: there is no sbatch here", hint="run it where jobs are submitted, a login node")
    engine = Slurm(needs, place)
    engine.check()
    return engine


def script(folders: Sequence[str], needs: Needs, place: Path) -> str:
    """Write the array script; task N does the try in the Nth of the folders, and prints into `place`."""
    lines = ["#!/bin/bash", "#SBATCH --job-name=compressit", f"#SBATCH --array=0-{len(folders) - 1}"]
    lines += [f"#SBATCH --cpus-per-task={needs.cpus}"]
    lines += [f"#SBATCH --gpus-per-task={needs.gpus}", "#SBATCH --ntasks=1"] if needs.gpus else []
    if needs.timeout is not None:
        # Slurm's limit counts from the task's begin, in minutes; the job's own comes first.
        lines += [f"#SBATCH --time={math.ceil((needs.timeout + 2 * WARNED) / 60)}"]
    lines += ["#SBATCH --requeue", "#SBATCH --open-mode=append", f"#SBATCH --signal=B:USR1@{WARNED}"]
    lines += ["#SBATCH --output=" + _pattern(place / "slurm-%A_%a.txt")]
    lines += ["", "folders=(", *(f"  {shlex.quote(folder)}" for folder in folders), ")"]
    lines += [
        "",
        "# Signals are for compressit, which ends with 75 where the same command goes on later.",
        f'{shlex.join(worker())} "${{folders[$SLURM_ARRAY_TASK_ID]}}" \\',
        '  "${SLURM_ARRAY_JOB_ID}_${SLURM_ARRAY_TASK_ID}" "${SLURM_RESTART_COUNT:-0}" &',
        "job=$!",
        'for signal in USR1 TERM INT; do trap "kill -$signal $job" $signal; done',
        "while true; do",
        "  wait $job",
        "  code=$?",
        "  kill -0 $job 2>/dev/null || break",
        "done",
        f'if [ $code = {int(ExitCode.RETRY)} ] && [ "${{SLURM_RESTART_COUNT:-0}}" -lt {AGAIN} ]; then',
        '  scontrol requeue "${SLURM_ARRAY_JOB_ID}_${SLURM_ARRAY_TASK_ID}" && sleep 60',
        "fi",
        "exit $code",
        "",
    ]
    return "\n".join(lines)


class Slurm:
    """Slurm's command line. A try is called by its array job and task, as in 17_3."""

    outlives = True
    pause = 5.0

    def __init__(self, needs: Needs, place: Path) -> None:
        self._needs = needs
        self._place = place.resolve()

    def check(self) -> None:
        """Raise RecipeError where Slurm would never run such a job."""
        with tempfile.NamedTemporaryFile("w", suffix=".sh") as file:
            file.write(script([""], self._needs, self._place))
            file.flush()
            done = _slurm("sbatch", "--test-only", file.name)
        if done.returncode:
            said = _last(done.stderr)
            if _out_of_reach(said):
                raise RetryableError(f"Slurm doesn't answer: {said}")
            raise RecipeError(
                f"Slurm would not run such a job: {said}",
                hint="change --cpus, --gpus or --timeout, or set SBATCH_PARTITION, SBATCH_ACCOUNT and the like",
            )

    def submit(self, tries: Sequence[Path]) -> Mapping[Path, str]:
        """Hand all of them over as one array."""
        folders = [folder.resolve() for folder in tries]
        file = self._place / f"array-{len(list(self._place.glob('array-*.sh')))}.sh"
        file.write_text(script([str(folder) for folder in folders], self._needs, self._place), encoding="utf-8")
        done = _slurm("sbatch", "--parsable", str(file))
        if done.returncode:
            raise RetryableError(f"sbatch {file} failed: {_last(done.stderr)}")
        job = done.stdout.strip().partition(";")[0]
        return {folder: f"{job}_{index}" for index, folder in enumerate(tries)}

    def poll(self, submissions: Collection[str]) -> Mapping[str, Phase]:
        """Ask for all tasks of this user at once."""
        done = _slurm("squeue", "--noheader", "--array", f"--user={getpass.getuser()}", "--format=%i|%T")
        if done.returncode:
            raise RetryableError(f"squeue failed: {_last(done.stderr)}")
        states = dict(line.split("|", 1) for line in done.stdout.split() if "|" in line)
        return {name: _phase(states.get(name)) for name in submissions}

    def cancel(self, submission: str) -> None:
        """Take a task from the queue, or end it."""
        done = _slurm("scancel", submission)
        if done.returncode and "Invalid job id" not in done.stderr:
            raise RetryableError(f"scancel {submission} failed: {_last(done.stderr)}")

    def logs(self, submission: str) -> str:
        """Say what Slurm knows of a task, as long as it remembers."""
        done = _slurm("scontrol", "--oneliner", "show", "job", submission)
        words = [word for word in done.stdout.split() if word.startswith(("JobState=", "Reason=", "ExitCode="))]
        return ", ".join(words)


def _phase(state: str | None) -> Phase:
    if state is None or state in ("COMPLETED", "FAILED", "CANCELLED", "TIMEOUT", "OUT_OF_MEMORY", "DEADLINE"):
        return Phase.GONE
    return Phase.RUNNING if state in RUNNING else Phase.WAITING


def _slurm(*arguments: str) -> subprocess.CompletedProcess[str]:
    try:
        return subprocess.run(arguments, capture_output=True, text=True, check=False, timeout=120)
    except (OSError, subprocess.TimeoutExpired) as error:
        raise RetryableError(f"{arguments[0]} can't be run: {error}") from error


def _out_of_reach(said: str) -> bool:
    return "Unable to contact" in said or "Connection refused" in said or "Socket timed out" in said


def _last(text: str) -> str:
    return " ".join((text.strip().splitlines() or ["it said nothing"])[-1].split())


def _pattern(path: Path) -> str:
    """Write a path for #SBATCH; one with a space would end at it."""
    return str(path).replace(" ", "\\ ")
