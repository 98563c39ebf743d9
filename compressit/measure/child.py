"""The process that opens one saved artifact and measures it: a job on standard input, arrays and answer.json out."""

from __future__ import annotations

import json
import random
import sys
import time
import warnings
from collections.abc import Callable, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np

from compressit import data, model, runtimes
from compressit.errors import CompressitError
from compressit.measure.memory import Peak
from compressit.runtimes import Batch, Session

WARM_UP = 3
RUNS = (21, 101)
SECONDS = 3.0
"""Timed runs of each artifact take about this long at each batch size, within the least and most number of runs."""


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
        _open(subject, setting)
        np.savez(scratch / "arrays.npz", logits=np.empty(0), labels=np.empty(0), examples=np.empty(0))
        return {"facts": asdict(facts), "memory": 0}
    rows, prepared, batches = _batches(subject["folder"], setting)
    order = data.by_length(prepared)
    # What reading needs is in memory before the count starts; the last batch is the longest.
    _, longest, _ = next(batches(order[-job["batch_size"] :], job["batch_size"]))
    with Peak(subject["device"]) as peak:
        session = _open(subject, setting)
        session(longest)
    said = [(places, session(batch), labels) for places, batch, labels in batches(order, job["batch_size"])]
    back = np.argsort(np.concatenate([places for places, _, _ in said]))
    arrays = {
        "logits": np.concatenate([logits for _, logits, _ in said])[back],
        "labels": np.concatenate([labels for _, _, labels in said])[back],
        "examples": data.fingerprints(rows),
    }
    if job["beside"]:
        roles = _roles(session, job["beside"], setting)
        for size in job["batch_sizes"]:
            for role, seconds in interleave(roles, rows, batches, size, random.Random(setting["seed"])).items():
                arrays[f"{role}_{size}"] = seconds
    np.savez(scratch / "arrays.npz", allow_pickle=False, **arrays)
    return {"facts": asdict(facts), "memory": peak.bytes}


def _roles(session: Session, beside: Mapping[str, Mapping[str, str]], setting: Mapping[str, Any]) -> dict[str, Session]:
    """Open what the artifact is timed beside: the original on its runtime and, where that is another, on torch."""
    baseline = _open(beside["baseline"], setting)
    # `again` is the baseline once more: how far two timings of one thing lie apart is the machine's noise.
    roles = {"artifact": session, "baseline": baseline, "again": baseline}
    if beside["original"] != beside["baseline"]:
        roles["original"] = _open(beside["original"], setting)
    return roles


def interleave(
    sessions: Mapping[str, Session], rows: Any, batches: Callable[..., Any], size: int, draw: random.Random
) -> dict[str, Any]:
    """Time every session on one batch after the other, side by side."""

    def draw_batch() -> Batch:
        batch: Batch
        _, batch, _ = next(batches([draw.randrange(len(rows)) for _ in range(size)], size))
        return batch

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


def _open(subject: Mapping[str, str], setting: Mapping[str, Any]) -> Session:
    runtime, folder = runtimes.load(subject["runtime"]), Path(subject["folder"])
    opened: Session = runtime.open(folder, setting["task"], subject["device"], setting["trust_remote_code"])
    return opened


def _batches(folder: str, setting: Mapping[str, Any]) -> tuple[Any, Any, Callable[..., Any]]:
    """Read the rows; give them, prepared rows, and a function from places to (places, numpy batch, labels)."""
    import datasets

    from compressit import tasks

    datasets.disable_progress_bars()
    rows = datasets.load_from_disk(setting["rows"])
    task = tasks.load(setting["task"])
    processor = model.processor(Path(folder), setting["task"], trust_remote_code=setting["trust_remote_code"])
    prepared = task.prepare(rows, processor, setting["max_length"])
    collate = task.collate(processor)

    def batches(order: list[int], size: int) -> Any:
        for places, batch in data.batched(prepared, collate, order, size):
            arrays = {name: value.numpy() for name, value in batch.items()}
            labels = arrays.pop("labels")
            yield places, arrays, labels

    return rows, prepared, batches


if __name__ == "__main__":
    main(Path(sys.argv[1]))
