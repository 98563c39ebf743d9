"""This machine, shared out to jobs that run at once: each gets its own GPUs, and its part of the processor cores.

A job sees its GPUs by CUDA_VISIBLE_DEVICES, out of those that the variable holds already; two never share one. Cores
are shared out by OMP_NUM_THREADS, unless it is set.
"""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Callable, Mapping

from compressit.errors import RecipeError

VISIBLE, THREADS = "CUDA_VISIBLE_DEVICES", "OMP_NUM_THREADS"

Share = Mapping[str, str]
"""Environment variables for one job at a time, besides those of this process."""


def share(asked: int | None, say: Callable[[str], None], *, gpus: int | None = None, cpus: int = 1) -> list[Share]:
    """Share this machine out.

    Args:
        asked: Jobs at once (default: as many as GPUs can be shared out to, one without any).
        say: Told where it has to be fewer.
        gpus: GPUs for each job (default: one where there are any).
        cpus: Cores that each job gets at least.

    Raises:
        RecipeError: a job needs more GPUs than there are.
    """
    there = _gpus()
    each = min(1, len(there)) if gpus is None else gpus
    if each > len(there):
        raise RecipeError(f"a job needs {each} GPUs, and this machine shows {len(there)}", hint="lower --gpus")
    most = len(there) // each if each else None
    wanted = asked or most or 1
    slots = min(wanted, most) if most else wanted
    if slots < wanted:
        say(f"warning: {slots} jobs at once, not {wanted}: {len(there)} GPUs, {each} for each job")
    threads = {} if THREADS in os.environ else {THREADS: str(max(cpus, (os.cpu_count() or 1) // slots))}
    own = [there[slot * each : (slot + 1) * each] for slot in range(slots)]
    return [threads | ({VISIBLE: ",".join(names)} if names else {}) for names in own]


def _gpus() -> list[str]:
    """Name the GPUs that jobs may have."""
    if VISIBLE in os.environ:
        return [name for part in os.environ[VISIBLE].split(",") if (name := part.strip()) and name != "-1"]
    if shutil.which("nvidia-smi") is None:
        return []
    query = ["nvidia-smi", "--query-gpu=index", "--format=csv,noheader"]
    done = subprocess.run(query, capture_output=True, text=True, check=False, timeout=60)
    return done.stdout.split() if done.returncode == 0 else []
