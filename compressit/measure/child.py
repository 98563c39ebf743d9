"""The process that opens one saved artifact and measures it: a job on standard input, arrays and answer.json out."""

from __future__ import annotations

import json
import random
import sys
import tempfile
import time
import warnings
from collections.abc import Iterator, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np

from compressit import data, model, runtimes, tasks
from compressit.errors import CompressitError
from compressit.measure.memory import Peak
from compressit.runtimes import Batch, Session

WARM_UP = 3
RUNS = (21, 101)
SECONDS = 3.0
"""Timed runs of each artifact take about this long at each batch size, within the least and most number of runs."""
LOGITS = 1 << 26
"""Logits of one batch at most, 256 MB; a single example may have more."""


def main(scratch: Path) -> None:
    """Do the job on standard input."""
    warnings.simplefilter("ignore")
    job = json.load(sys.stdin)
    try:
        answer = measure(job, scratch)
    except CompressitError as error:
        answer = {"error": error.message, "hint": error.hint, "exit_code": int(error.exit_code)}
    (scratch / "answer.json").write_text(json.dumps(answer), encoding="utf-8")


def measure(job: Mapping[str, Any], scratch: Path) -> dict[str, Any]:
    """Open the artifact, run it over all rows, and time it beside the others if the job names any."""
    setting, subject = job["setting"], job["subject"]
    facts = runtimes.load(subject["runtime"]).inspect(Path(subject["folder"]))
    if setting["rows"] is None:
        _open(subject, setting, scratch)
        np.savez(scratch / "arrays.npz")
        return {"facts": asdict(facts), "memory": 0, "output": [], "protocol": {}}
    examples = _Examples(Path(subject["folder"]), setting)
    # What reading needs is in memory before the count starts; the last batch is the longest.
    order = data.by_length(examples.prepared)
    _, longest, labels = next(examples.batches(order[-job["batch_size"] :], job["batch_size"]))
    with Peak(subject["device"]) as peak:
        session = _open(subject, setting, scratch)
        size = _affordable(session({name: array[-1:] for name, array in longest.items()}), len(labels))
        session({name: array[-size:] for name, array in longest.items()})
    sessions = _Sessions(setting, scratch, subject, session)
    compared = job["original"] if examples.task.OUTPUT.PAIRED else None
    arrays = examples.gathered(_run(session, sessions(compared) if compared else None, examples, order, size))
    output = list(arrays)
    if job["beside"]:
        roles = _roles(session, job["beside"], sessions)
        for size in job["batch_sizes"]:
            for role, seconds in interleave(roles, examples, size, random.Random(setting["seed"])).items():
                arrays[f"{role}_{size}"] = seconds
    np.savez(scratch / "arrays.npz", allow_pickle=False, **arrays)
    return {"facts": asdict(facts), "memory": peak.bytes, "output": output, "protocol": examples.protocol()}


def _affordable(logits: Any, most: int) -> int:
    """Count the examples whose logits fit a batch, from those of the longest one."""
    return int(max(1, min(most, LOGITS // max(1, logits.size))))


def _run(
    session: Session, original: Session | None, examples: _Examples, order: list[int], size: int
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
    """Opened artifacts; none is opened twice."""

    def __init__(self, setting: Mapping[str, Any], scratch: Path, subject: Mapping[str, str], session: Session) -> None:
        self.setting = setting
        self.scratch = scratch
        self.opened = {tuple(subject.values()): session}

    def __call__(self, subject: Mapping[str, str]) -> Session:
        key = tuple(subject.values())
        if key not in self.opened:
            self.opened[key] = _open(subject, self.setting, self.scratch)
        return self.opened[key]


def _roles(session: Session, beside: Mapping[str, Mapping[str, str]], sessions: _Sessions) -> dict[str, Session]:
    """Open what the artifact is timed beside: the original on its runtime and, where that is another, on torch."""
    baseline = sessions(beside["baseline"])
    # `again` is the baseline once more: how far two timings of one thing lie apart is the machine's noise.
    roles = {"artifact": session, "baseline": baseline, "again": baseline}
    if beside["original"] != beside["baseline"]:
        roles["original"] = sessions(beside["original"])
    return roles


def interleave(sessions: Mapping[str, Session], examples: _Examples, size: int, draw: random.Random) -> dict[str, Any]:
    """Time every session on one batch after the other, side by side."""
    timed = getattr(examples.task, "timed", lambda batch: batch)

    def draw_batch() -> Batch:
        some = [draw.randrange(len(examples.prepared)) for _ in range(size)]
        _, batch, _ = next(examples.batches(some, size))
        chosen: Batch = timed(batch)
        return chosen

    spent = min(_round(sessions, draw_batch(), draw)[1] for _ in range(WARM_UP))
    runs = int(min(RUNS[1], max(RUNS[0], SECONDS / max(spent, 1e-9))))
    rounds = [_round(sessions, draw_batch(), draw)[0] for _ in range(runs)]
    return {role: np.array([seconds[role] for seconds in rounds]) for role in sessions}


def _round(sessions: Mapping[str, Session], batch: Batch, draw: random.Random) -> tuple[dict[str, float], float]:
    seconds = {}
    for role in draw.sample(sorted(sessions), len(sessions)):
        start = time.perf_counter()
        sessions[role](batch)
        seconds[role] = time.perf_counter() - start
    return seconds, sum(seconds.values())


def _open(subject: Mapping[str, str], setting: Mapping[str, Any], scratch: Path) -> Session:
    runtime, folder = runtimes.load(subject["runtime"]), Path(subject["folder"])
    place = Path(tempfile.mkdtemp(prefix="weights-", dir=scratch)) if setting["on_disk"] else None
    opened: Session = runtime.open(folder, setting["task"], subject["device"], setting["trust_remote_code"], place)
    return opened


class _Examples:
    """The evaluation rows, prepared for the model."""

    def __init__(self, folder: Path, setting: Mapping[str, Any]) -> None:
        import datasets

        datasets.disable_progress_bars()
        self.rows = datasets.load_from_disk(setting["rows"])
        self.task: Any = tasks.load(setting["task"])
        self.processor = model.processor(folder, setting["task"], trust_remote_code=setting["trust_remote_code"])
        labels = model.labels(folder, trust_remote_code=setting["trust_remote_code"])
        self.names = [labels[index] for index in sorted(labels)]
        self.reader = tasks.reader(setting["task"], folder)
        self.length, self.fields = setting["max_length"], setting["fields"]
        self.prepared = self.task.prepare(self.rows, self.processor, self.length, **self.fields)
        self.collate = self.task.collate(self.processor)

    def batches(self, order: list[int], size: int) -> Iterator[tuple[list[int], dict[str, Any], Any]]:
        """Give (places, numpy batch, labels) in a given order."""
        for places, batch in data.batched(self.prepared, self.collate, order, size):
            arrays = {name: value.numpy() for name, value in batch.items()}
            labels = arrays.pop("labels")
            yield places, arrays, labels

    def gathered(self, said: Mapping[str, list[Any]]) -> dict[str, Any]:
        """Put together what was said of each example, and name each by a hash of its content."""
        arrays: dict[str, Any] = self.task.OUTPUT.gather(said, self.prepared, self.rows, self.names)
        return {**arrays, "examples": self.hashes()}

    def hashes(self) -> Any:
        """Hash each row; where examples are not rows, the sum of what they were made into."""
        if "example" not in self.prepared.column_names:
            return data.fingerprints(self.rows)
        owners = np.array(self.prepared["example"])
        sums = np.zeros(owners.max() + 1, np.uint64)
        np.add.at(sums, owners, data.fingerprints(self.prepared))
        return sums

    def protocol(self) -> dict[str, str | int]:
        """Say how the examples were scored, where the task or its reader has something to say."""
        say = getattr(self.task, "protocol", None)
        said = say(self.prepared, self.rows, self.processor, self.length, **self.fields) if say else {}
        return {**said, **getattr(self.reader, "protocol", dict)()}


if __name__ == "__main__":
    main(Path(sys.argv[1]))
