"""The data's scores -> numbers."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

from compressit.data.places import Where
from compressit.errors import DataError

if TYPE_CHECKING:
    from datasets import Dataset


def to_numbers(rows: Dataset, where: Where, *, needed: bool = True) -> Dataset:
    """Make numbers of the column `score`; where none is needed, a row without one gets NaN.

    Raises:
        DataError: a score is missing or is no finite number.
    """
    there = "score" in rows.column_names
    # A single text has nothing to be like.
    values = list(rows["score"]) if there and "text_pair" in rows.column_names else [None] * len(rows)
    found = [_number(value, index, where, needed) for index, value in enumerate(values)]
    rest = rows.remove_columns("score") if there else rows
    return rest.add_column("score", found)


def _number(value: Any, index: int, where: Where, needed: bool) -> float:
    missing = value is None or (isinstance(value, float) and math.isnan(value))
    if missing and needed:
        raise DataError(f"{where(index)} has no score", hint="name a split whose scores are known")
    if missing:
        return math.nan
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        raise DataError(f"{where(index)}: score {value!r} is not a number")
    return float(value)
