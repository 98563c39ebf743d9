"""Which fresh rows a run has seen before: figures on them say little of what is new."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from compressit import data, tasks
from compressit.data import DatasetSpec, source
from compressit.errors import CompressitError
from compressit.outputs import Output
from compressit.serving.finished import Finished

if TYPE_CHECKING:
    from datasets import Dataset
    from numpy.typing import NDArray

USES = ("train", "calibration")


def judged_on(rows: Dataset, after: Output, before: Output, labelled: bool, names: Mapping[int, str]) -> int | None:
    """Count the fresh examples that the run was judged on; without labels, whatever their label was there.

    Args:
        rows: The fresh ones.
        after: What the artifact says of them.
        before: What it said in the run.
        labelled: Whether it is known what is right.
        names: The model's labels.
    """
    seen: NDArray[np.uint64] = before.arrays()["examples"]
    if labelled:
        return int(np.isin(after.arrays()["examples"], seen).sum())
    if "label" not in rows.column_names:
        return None
    found = np.zeros(len(rows), dtype=bool)
    bare = rows.remove_columns("label")
    for index in names:
        found |= np.isin(data.fingerprints(bare.add_column("label", [index] * len(rows))), seen)
    return int(found.sum())


def learned_from(run: Finished, rows: Dataset, names: Mapping[int, str]) -> tuple[dict[str, int], list[str]]:
    """Count the fresh rows that the run's other splits hold too, whatever they are labelled.

    Only what is on this machine is read: nothing is fetched for it.

    Returns:
        How many, by split; and notes on those that can't be read.
    """
    spec, task = run.recipe.dataset, run.report.task
    wanted = {use: split for use in USES if spec is not None and (split := getattr(spec, use)) is not None}
    if spec is None or not wanted:
        return {}, []
    unknown = f"whether rows are in the run's {' or '.join(wanted)} split is not known"
    if not _here(spec):
        return {}, [f"{unknown}: {spec.path} is no file or folder of this machine"]
    found: dict[str, int] = {}
    for use, split in wanted.items():
        try:
            part = data.rows(spec, split, task, names, Path(), labelled=False)
        except CompressitError as error:
            return found, [f"{unknown}: {str(error).splitlines()[0]}"]
        found[use] = data.repeated(_bare(rows, task), _bare(part, task))
    return found, []


def _here(spec: DatasetSpec) -> bool:
    return source.demo(spec.path) is not None or source.local(spec, Path()).exists()


def _bare(rows: Dataset, task: str) -> Dataset:
    return rows.remove_columns([name for name in rows.column_names if name == tasks.truth(task)])
