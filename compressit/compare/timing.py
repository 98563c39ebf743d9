"""The compared artifacts timed side by side, on the rows that their recipes judge them on."""

from __future__ import annotations

import tempfile
from collections.abc import Sequence

from compressit import data, metrics
from compressit import model as models
from compressit.compare.comparing import Timed
from compressit.compare.runs import Run
from compressit.measure import Setting
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
    run, report, spec = base.finished, base.finished.report, base.finished.recipe.dataset
    if not sizes or spec is None:
        return {}
    with quiet(), tempfile.TemporaryDirectory(prefix="compressit-") as place:
        labels = models.labels(run.folder / base.artifact.path)
        rows = data.rows(spec, spec.evaluation, report.task, labels, run.folder)
        rows.save_to_disk(place)
        setting = Setting(report.task, place, report.provenance.seed, spec.max_length, fields=spec.task_fields())
        subjects = {each.name: each.finished.subject(each.artifact, device) for each in (base, *candidates)}
        found = side_by_side(subjects, setting, [Shape(size) for size in sizes])
    return {
        each.name: {
            shape.size: Timings(
                shape.size, took.seconds[each.name], took.seconds[base.name], took.again, took.seconds[base.name]
            )
            for shape, took in found.items()
        }
        for each in candidates
    }


def _sizes(runs: Sequence[Run]) -> list[int]:
    """Give the batch sizes of the timed metrics that all runs have."""
    shared = set.intersection(*(set(run.metrics) for run in runs))
    timed = [config for key, config in runs[0].metrics.items() if key in shared]
    return sorted({s for c in timed if metrics.load(c.metric).KIND is Kind.TIMED for s in c.batch_sizes()})
