"""Evaluation examples that other splits hold too: figures on them flatter."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import TYPE_CHECKING

from compressit import data
from compressit.errors import DataError
from compressit.progress import Progress
from compressit.runner.work import EVALUATION

if TYPE_CHECKING:
    from datasets import Dataset


def count(rows: Mapping[str, Dataset]) -> dict[str, int]:
    """Count the evaluation examples that another split holds too, by that split's use; those without any left out."""
    found = {use: data.repeated(rows[EVALUATION], part) for use, part in rows.items() if use != EVALUATION}
    return {use: number for use, number in found.items() if number}


def tell(rows: Mapping[str, Dataset], spec: data.DatasetSpec, progress: Progress) -> None:
    """Warn of them, and refuse more of them than the recipe allows."""
    total = len(rows[EVALUATION])
    for use, number in count(rows).items():
        progress.say(f"warning: {number:,} examples of the evaluation split are in the {use} split too")
        if number > spec.max_leak * total:
            raise DataError(
                f"{number:,} of {total:,} examples of {spec.evaluation} are in the {use} split too: that flatters",
                hint=f"choose splits that are apart, or set dataset.max_leak: {math.ceil(100 * number / total) / 100}",
            )
