"""The data's summaries or translations: a text for each row."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from compressit.data.places import Where
from compressit.errors import DataError

if TYPE_CHECKING:
    from datasets import Dataset


def checked(rows: Dataset, role: str, where: Where, *, needed: bool = True) -> Dataset:
    """Make sure that each row has a text to be held against; where none is needed, None stands in its place.

    Raises:
        DataError: a text is missing or is none.
    """
    import datasets

    if role not in rows.column_names:
        nothing = datasets.Dataset.from_dict(
            {role: [None] * len(rows)}, features=datasets.Features({role: datasets.Value("string")})
        )
        return datasets.concatenate_datasets([rows, nothing], axis=1)
    for index, value in enumerate(rows[role]):
        if needed and not (isinstance(value, str) and value.strip()):
            raise DataError(f"{where(index)}: {role} is {_shown(value)}")
    return rows


def _shown(value: Any) -> str:
    return "empty" if value is None or isinstance(value, str) else f"{str(value)[:40]}, not text"
