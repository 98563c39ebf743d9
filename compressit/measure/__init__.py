"""Measure saved artifacts, each in a fresh process that is given folders and the evaluation rows, nothing else."""

from __future__ import annotations

import contextlib
import hashlib
import json
import shutil
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from compressit import tasks
from compressit.measure.processes import begun
from compressit.metrics import Output, Timings
from compressit.runtimes import Facts

BATCH = 32
"""Examples at once while an artifact runs over the split."""


@dataclass(frozen=True)
class Subject:
    """An artifact on disk, the runtime that runs it, and on which device.

    Attributes:
        content: SHA-256 of its files; empty where nobody looks it up.
    """

    folder: str
    runtime: str
    device: str = "cpu"
    content: str = ""


@dataclass(frozen=True)
class Setting:
    """What all measurements of a run share.

    Attributes:
        rows: Folder of the evaluation rows, saved with role names and the model's label ids; None without a data set.
        fields: Fields of the data set that the task's `prepare` takes besides.
        on_disk: A folder for weights that are laid out anew, where weights stay on disk; None where memory holds them.
        kept: A folder in which what was measured outlives a killed run, on this machine; None where it needn't.
        forks: The socket of a process that forks those which measure; None for one that is started each time.
    """

    task: str
    rows: str | None
    seed: int
    max_length: int | None = None
    trust_remote_code: bool = False
    fields: Mapping[str, Any] = field(default_factory=dict)
    on_disk: str | None = None
    kept: str | None = None
    forks: str | None = None


@dataclass(frozen=True)
class Outcome:
    """What one artifact did over the evaluation split.

    Attributes:
        timings: By batch size; empty where none were asked for.
        protocol: How the examples were scored, in the words of the task.
    """

    facts: Facts
    predictions: Output
    memory: int
    timings: Mapping[int, Timings]
    protocol: Mapping[str, str | int]


@dataclass(frozen=True)
class Beside:
    """What an artifact is timed next to, run by run.

    Attributes:
        baseline: The original on the artifact's runtime.
        original: The original on torch.
        batch_sizes: Each is timed on its own batches.
    """

    baseline: Subject
    original: Subject
    batch_sizes: Sequence[int]


def measure(
    subject: Subject,
    setting: Setting,
    beside: Beside | None = None,
    batch_size: int = BATCH,
    original: Subject | None = None,
) -> Outcome:
    """Run an artifact over the evaluation rows in a process of its own, and time it there.

    Args:
        subject: The artifact.
        setting: What all measurements share.
        beside: What to time it next to; None for no timings.
        batch_size: Examples at once while it runs over the split; fewer where their logits would fill the memory.
        original: What its output is compared with batch by batch, where the task's kind of output is; None for nothing.

    Raises:
        CompressitError: of the kind that the process met.
    """
    with measuring(subject, setting, beside, batch_size, original) as outcome:
        return outcome()


@contextlib.contextmanager
def measuring(
    subject: Subject,
    setting: Setting,
    beside: Beside | None = None,
    batch_size: int = BATCH,
    original: Subject | None = None,
) -> Iterator[Callable[[], Outcome]]:
    """Begin to `measure`; gives what waits for the outcome. Leaving the block ends what still measures."""
    sizes = beside.batch_sizes if beside else ()
    job = {
        "do": "measure",
        "subject": asdict(subject),
        "setting": asdict(setting),
        "batch_size": batch_size,
        "beside": {"baseline": asdict(beside.baseline), "original": asdict(beside.original)} if beside else None,
        "batch_sizes": list(sizes),
        "original": asdict(original) if original else None,
    }
    if setting.on_disk:
        Path(setting.on_disk).mkdir(parents=True, exist_ok=True)
    with _place(setting, job) as scratch, contextlib.ExitStack() as stack:
        kept, what = _kept(scratch), f"measuring {subject.folder} on {subject.runtime}"
        wait = kept.copy if kept else stack.enter_context(begun(job, scratch, what))

        def outcome() -> Outcome:
            said = wait()
            with np.load(Path(scratch) / "arrays.npz") as arrays:
                kind = tasks.load(setting.task).OUTPUT
                predictions = kind(**{name: arrays[name] for name in said["output"]}) if setting.rows else kind.empty()
                timings = {size: _timings(size, arrays) for size in sizes}
            return Outcome(Facts(**said["facts"]), predictions, said["memory"], timings, said["protocol"])

        yield outcome


@contextlib.contextmanager
def _place(setting: Setting, job: Mapping[str, Any]) -> Iterator[str]:
    """Give a folder for what a process finds out: one that outlives a killed run, or one that goes at the end."""
    if setting.kept is None:
        with tempfile.TemporaryDirectory(prefix="compressit-", dir=setting.on_disk) as scratch:
            yield scratch
        return
    place = Path(setting.kept) / _key(job)
    place.mkdir(parents=True, exist_ok=True)
    try:
        yield str(place)
    finally:
        for left in place.glob("weights-*"):
            shutil.rmtree(left, ignore_errors=True)


def _key(job: Mapping[str, Any]) -> str:
    """Name what is measured by what the artifacts hold, wherever they lie."""

    def held(value: Any) -> Any:
        if isinstance(value, Mapping):
            left_out = ("folder", "rows", "on_disk", "kept", "forks")
            return {name: held(inner) for name, inner in value.items() if name not in left_out}
        return value

    return hashlib.sha256(json.dumps(held(job), sort_keys=True).encode()).hexdigest()


def _kept(scratch: str) -> dict[str, Any] | None:
    """Read what a process found out before this one was killed, if it came to its end."""
    answer = Path(scratch) / "answer.json"
    said: dict[str, Any] = json.loads(answer.read_text(encoding="utf-8")) if answer.is_file() else {"error": ""}
    return None if "error" in said else said


def _timings(size: int, arrays: Mapping[str, Any]) -> Timings:
    artifact, baseline, again = (arrays[f"{role}_{size}"] for role in ("artifact", "baseline", "again"))
    # Where the artifact's runtime is torch, the original is timed once.
    return Timings(size, artifact, baseline, again, arrays.get(f"original_{size}", baseline))
