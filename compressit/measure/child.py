"""The process that opens saved artifacts and measures them: a job on standard input, arrays and answer.json out."""

from __future__ import annotations

import json
import random
import sys
import tempfile
import warnings
from collections.abc import Callable, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np

from compressit import data, machine, runtimes
from compressit.errors import CompressitError, ExitCode
from compressit.measure.drawing import Drawn
from compressit.measure.examples import Examples, affordable
from compressit.measure.interleaving import interleave
from compressit.measure.memory import Peak
from compressit.runtimes import Batch, Session


def do(job: Mapping[str, Any], scratch: Path) -> None:
    """Do a job and leave the answer, or the error, in a folder."""
    warnings.simplefilter("ignore")
    try:
        answer = {"measure": measure, "time": time}[job["do"]](job, scratch)
    except CompressitError as error:
        answer = {"error": error.message, "hint": error.hint, "exit_code": int(error.exit_code)}
    except MemoryError as error:
        hint = "fewer or shorter examples at once need less"
        answer = {"error": f"memory doesn't suffice: {error}", "hint": hint, "exit_code": int(ExitCode.FAILED)}
    half = scratch / "answer.half"
    half.write_text(json.dumps(answer), encoding="utf-8")
    half.replace(scratch / "answer.json")


def measure(job: Mapping[str, Any], scratch: Path) -> dict[str, Any]:
    """Open the artifact, run it over all rows, and time it beside the others if the job names any."""
    setting, subject = job["setting"], job["subject"]
    facts = runtimes.load(subject["runtime"]).inspect(Path(subject["folder"]))
    if setting["rows"] is None:
        _open(subject, setting, scratch)
        np.savez(scratch / "arrays.npz")
        return {"facts": asdict(facts), "memory": 0, "output": [], "protocol": {}}
    examples = Examples(Path(subject["folder"]), setting)
    # What reading needs is in memory before the count starts; the last batch is the longest.
    order = data.by_length(examples.prepared)
    _, longest, labels = next(examples.batches(order[-job["batch_size"] :], job["batch_size"]))
    with Peak(subject["device"]) as peak:
        session = _open(subject, setting, scratch)
        size = affordable(session({name: array[-1:] for name, array in longest.items()}), len(labels))
        session({name: array[-size:] for name, array in longest.items()})
    sessions = _Sessions(setting, scratch)
    sessions.add(subject, session)
    compared = job["original"] if examples.task.OUTPUT.PAIRED else None
    arrays = examples.gathered(_run(session, sessions(compared) if compared else None, examples, order, size))
    output = list(arrays)
    if job["beside"]:
        roles = _roles(session, job["beside"], sessions)
        for size in job["batch_sizes"]:
            draw = random.Random(setting["seed"])
            for role, seconds in interleave(roles, _same(roles, examples, size, draw), draw).items():
                arrays[f"{role}_{size}"] = seconds
    np.savez(scratch / "arrays.npz", allow_pickle=False, **arrays)
    return {"facts": asdict(facts), "memory": peak.bytes, "output": output, "protocol": examples.protocol()}


def time(job: Mapping[str, Any], scratch: Path) -> dict[str, Any]:
    """Open several artifacts and time them side by side at each shape, the first one twice."""
    setting, subjects, shapes = job["setting"], job["subjects"], job["shapes"]
    make = Examples if setting["rows"] is not None else Drawn
    sources: list[Any] = [make(Path(subject["folder"]), setting) for subject in subjects]
    sessions = _Sessions(setting, scratch)
    roles = {str(place): sessions(subject) for place, subject in enumerate(subjects)}
    first, again, second = sources[0], "again", sessions.again(subjects[0])
    arrays: dict[str, Any] = {}
    for number, (size, length) in enumerate(shapes):
        draw = random.Random(setting["seed"])

        def batches(size: int = size, length: int | None = length, draw: random.Random = draw) -> dict[str, Batch]:
            if isinstance(first, Drawn):
                seed = draw.getrandbits(32)
                made = [source.batch(size, length, seed) for source in sources]
            else:
                points = [draw.random() for _ in range(size)]
                made = [source.timed(points) for source in sources]
            return {again: made[0], **{str(place): batch for place, batch in enumerate(made)}}

        took = interleave({again: second, **roles}, batches, draw, job["seconds"])
        arrays |= {f"{number}_{role}": seconds for role, seconds in took.items()}
    np.savez(scratch / "arrays.npz", allow_pickle=False, **arrays)
    return {}


def _run(
    session: Session, original: Session | None, examples: Examples, order: list[int], size: int
) -> dict[str, list[Any]]:
    """Run over all examples; give what each prepared row is reduced to, in their order."""
    said: dict[str, list[Any]] = {}
    for places, batch, labels in examples.batches(order, size):
        logits = session(batch)
        other = (logits if original is session else original(batch)) if original else None
        for name, values in examples.task.OUTPUT.reduce(logits, labels, other).items():
            laid = said.setdefault(name, [None] * len(order))
            for place, value in zip(places, values, strict=True):
                laid[place] = value
    return said


class _Sessions:
    """Opened artifacts."""

    def __init__(self, setting: Mapping[str, Any], scratch: Path) -> None:
        self.setting = setting
        self.scratch = scratch
        self.opened: dict[tuple[str, ...], Session] = {}

    def __call__(self, subject: Mapping[str, str]) -> Session:
        if tuple(subject.values()) not in self.opened:
            self.add(subject, _open(subject, self.setting, self.scratch))
        return self.opened[tuple(subject.values())]

    def again(self, subject: Mapping[str, str]) -> Session:
        """Open one a second time where there is room: a session that ran twice a round would be faster than others."""
        size = sum(file.stat().st_size for file in Path(subject["folder"]).rglob("*") if file.is_file())
        return _open(subject, self.setting, self.scratch) if machine.spares(size, subject["device"]) else self(subject)

    def add(self, subject: Mapping[str, str], session: Session) -> None:
        """Keep one that was opened elsewhere."""
        self.opened[tuple(subject.values())] = session


def _roles(session: Session, beside: Mapping[str, Mapping[str, str]], sessions: _Sessions) -> dict[str, Session]:
    """Open what the artifact is timed beside: the original on its runtime and, where that is another, on torch."""
    baseline = sessions(beside["baseline"])
    # How far two timings of one thing lie apart is the machine's noise.
    roles = {"artifact": session, "baseline": baseline, "again": sessions.again(beside["baseline"])}
    if beside["original"] != beside["baseline"]:
        roles["original"] = sessions(beside["original"])
    return roles


def _same(
    roles: Mapping[str, Session], examples: Examples, size: int, draw: random.Random
) -> Callable[[], dict[str, Batch]]:
    """Give what draws one batch for all."""
    return lambda: dict.fromkeys(roles, examples.timed([draw.random() for _ in range(size)]))


def _open(subject: Mapping[str, str], setting: Mapping[str, Any], scratch: Path) -> Session:
    runtime, folder = runtimes.load(subject["runtime"]), Path(subject["folder"])
    place = Path(tempfile.mkdtemp(prefix="weights-", dir=scratch)) if setting["on_disk"] else None
    opened: Session = runtime.open(folder, setting["task"], subject["device"], setting["trust_remote_code"], place)
    return opened


if __name__ == "__main__":
    do(json.load(sys.stdin), Path(sys.argv[1]))
