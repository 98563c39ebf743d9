"""What must be the same for two results to be held against each other, and what differs."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from compressit import metrics
from compressit.compare.runs import Run
from compressit.data.spec import TASK_FIELDS
from compressit.errors import IntegrityError
from compressit.metrics import Evidence

Facts = Mapping[str, str | int | None]

READING = ("max_length", *TASK_FIELDS, "labels")
"""Fields of a recipe's data set that decide what a model is given of a row, and how it is judged."""


def facts(run: Run) -> Facts:
    """Say what a run was judged on, and how."""
    data, spec = run.finished.report.provenance.data, run.finished.recipe.dataset
    found = {
        "task": run.finished.report.task,
        "examples": data.get("examples"),
        "SHA-256 of the examples": data.get("sha256"),
    }
    read = {field: getattr(spec, field, None) for field in READING}
    return found | {name: value if value is None else str(value) for name, value in read.items()}


def measuring(run: Run, key: str) -> Mapping[str, Any]:
    """Say how a metric is measured: its fields, and the version of its definition."""
    config = run.metrics[key]
    version = run.finished.report.provenance.metrics.get(key, metrics.version(config.metric))
    return {**config.model_dump(mode="json", exclude={"name"}, exclude_none=True), "version": version}


def refuse(names: tuple[str, str], base: Facts, candidate: Facts) -> None:
    """Raise IntegrityError where two results were not judged on the same examples in the same way."""
    said = {**base, **candidate}
    differing = [
        f"{name}: {base.get(name)} and {candidate.get(name)}" for name in said if base.get(name) != candidate.get(name)
    ]
    if differing:
        raise IntegrityError(
            f"{names[0]} and {names[1]} can't be compared:\n  " + "\n  ".join(differing),
            hint="run both recipes on the same data, read in the same way",
        )


def refuse_other_examples(names: tuple[str, str], base: Evidence, candidate: Evidence) -> None:
    """Raise IntegrityError where what two artifacts said is about other examples, or the same in another order."""
    one, other = base.predictions, candidate.predictions
    if not len(one) and not len(other):
        return
    if len(one) == len(other) and np.array_equal(one.arrays()["examples"], other.arrays()["examples"]):
        return
    raise IntegrityError(
        f"{names[0]} and {names[1]} can't be compared: their examples ({len(one):,} and {len(other):,}) are not the "
        "same; a language model's are windows of tokens",
        hint="compare models that make the same tokens of a text",
    )


def unlike(key: str, base: Mapping[str, Any], candidate: Mapping[str, Any]) -> str | None:
    """Say why a metric of two results is not the same one; None where it is."""
    if base == candidate:
        return None
    return f"{key} is not compared, for it is not the same one: {_shown(base)} and {_shown(candidate)}"


def _shown(described: Mapping[str, Any]) -> str:
    return ", ".join(f"{name}: {value}" for name, value in described.items())
