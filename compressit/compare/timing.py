"""The compared artifacts timed side by side, on the rows that their recipes judge them on."""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from pathlib import Path

from compressit import data, metrics, runtimes
from compressit import model as models
from compressit.compare.comparing import Timed
from compressit.compare.runs import Run
from compressit.measure import Setting, Subject
from compressit.measure.timings import Shape, side_by_side
from compressit.metrics import Kind, Timings
from compressit.progress import quiet


def time(base: Run, candidates: Sequence[Run], device: str) -> Timed:
    """Time every candidate's artifact next to the base's, for the timed metrics that they share.

    Args:
        base: What the others are held against; its data set is read again.
        candidates: The others.
        device: "cpu" or "cuda".

    Raises:
        CompressitError: the data can't be read any more, or an artifact can't be opened.
    """
    sizes = _sizes([base, *candidates])
    spec = base.written.recipe.dataset
    if not sizes or spec is None:
        return {}
    labels = models.labels(base.folder / base.artifact.path)
    rows = data.rows(spec, spec.evaluation, base.report.task, labels, base.written.base)
    with quiet(), tempfile.TemporaryDirectory(prefix="compressit-") as place:
        folder = Path(place) / "rows"
        rows.save_to_disk(str(folder))
        setting = Setting(
            base.report.task, str(folder), base.report.provenance.seed, spec.max_length, fields=spec.task_fields()
        )
        subjects = {run.name: _subject(run, device) for run in (base, *candidates)}
        found = side_by_side(subjects, setting, [Shape(size) for size in sizes])
    return {
        run.name: {
            shape.size: Timings(
                shape.size, took.seconds[run.name], took.seconds[base.name], took.again, took.seconds[base.name]
            )
            for shape, took in found.items()
        }
        for run in candidates
    }


def _sizes(runs: Sequence[Run]) -> list[int]:
    """Give the batch sizes of the timed metrics that all runs have."""
    shared = set.intersection(*(set(run.metrics) for run in runs))
    timed = [config for key, config in runs[0].metrics.items() if key in shared]
    return sorted({s for c in timed if metrics.load(c.metric).KIND is Kind.TIMED for s in c.batch_sizes()})


def _subject(run: Run, device: str) -> Subject:
    runtime = run.artifact.runtime
    return Subject(str(run.folder / run.artifact.path), runtime, runtimes.load(runtime).place(device))
