"""The data's labels -> the model's ids. Names that disagree are an error: a swapped map looks like a bad model.

Numbers are the model's ids as they are. Names are matched without regard to case; a recipe's `labels` says which
model label each label of the data means.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from compressit.errors import DataError

if TYPE_CHECKING:
    from datasets import Dataset


UNLABELLED = -100
"""What stands for a label that nobody knows; losses pass it over."""


def to_ids(
    rows: Dataset, id2label: Mapping[int, str], mapping: Mapping[str, str] | None, split: str, *, needed: bool = True
) -> Dataset:
    """Replace the column `label` by the model's ids.

    Where labels are not needed, a row without one gets `UNLABELLED`.

    Raises:
        DataError: the labels and the model's don't agree; the message shows both.
    """
    import datasets

    feature = rows.features["label"]
    names = feature.names if isinstance(feature, datasets.ClassLabel) else None
    values = list(rows["label"])
    _check_values(values, split, needed)
    known = {value for value in values if not _missing(value)}
    first = {value: f" (row {len(values) - 1 - index} of split {split!r})" for index, value in enumerate(values[::-1])}
    ids = table(sorted(known, key=str), names, id2label, mapping, first) | {None: UNLABELLED, -1: UNLABELLED}
    replaced = [ids[value] for value in values]
    return rows.remove_columns("label").add_column("label", replaced)


def table(
    values: list[Any],
    names: list[str] | None,
    id2label: Mapping[int, str],
    mapping: Mapping[str, str] | None,
    places: Mapping[Any, str] | None = None,
) -> dict[Any, int]:
    """Give the model's id of each label of the data.

    Args:
        values: The labels that occur.
        names: What they are called, where they are numbers that have names.
        id2label: The model's labels.
        mapping: The recipe's `labels`.
        places: Where each label occurs first, for the message.

    Raises:
        DataError: they don't agree; the message shows both.
    """
    where = places or {}
    spelled = {value: str(names[value]) if names and isinstance(value, int) else str(value) for value in values}
    by_name = {label.lower(): index for index, label in id2label.items()}
    if mapping is not None:
        unknown = [label for label in mapping.values() if label.lower() not in by_name]
        left = [name for name in spelled.values() if name not in mapping]
        if unknown or left:
            what = f"the model has no {', '.join(unknown)}" if unknown else f"no line for {', '.join(left)}"
            raise _mismatch(f"labels: {what}", list(spelled.values()), id2label)
        return {value: by_name[mapping[name].lower()] for value, name in spelled.items()}
    numbers = all(isinstance(value, int) for value in values)
    if names is not None:
        if {name.lower() for name in names} == by_name.keys():
            return {value: by_name[name.lower()] for value, name in spelled.items()}
        if not _generic(id2label) and not all(name.isdigit() for name in names):
            raise _mismatch("the data names its labels otherwise than the model", names, id2label)
        if len(names) != len(id2label):
            raise _mismatch(f"the data has {len(names)} labels, the model {len(id2label)}", names, id2label)
    if numbers:
        beyond = [value for value in values if int(value) not in id2label]
        if beyond:
            what = f"label {beyond[0]} is not one of the model's ids{where.get(beyond[0], '')}"
            raise _mismatch(what, list(spelled.values()), id2label)
        return {value: int(value) for value in values}
    strange = [value for value, name in spelled.items() if name.lower() not in by_name]
    if strange:
        what = f"the model has no label {spelled[strange[0]]!r}{where.get(strange[0], '')}"
        raise _mismatch(what, list(spelled.values()), id2label)
    return {value: by_name[name.lower()] for value, name in spelled.items()}


def unknown(rows: Dataset) -> bool:
    """Say whether no row has a label or a score, no word a tag, or no question answers."""
    if "answers" in rows.column_names:
        return all(answers is None for answers in rows["answers"])
    if "score" in rows.column_names:
        return all(math.isnan(score) for score in rows["score"])
    if "tags" in rows.column_names:
        return all(tag < 0 for tags in rows["tags"] for tag in tags)
    return "label" in rows.column_names and all(label == UNLABELLED for label in rows["label"])


def _missing(value: Any) -> bool:
    return value is None or value == -1


def _check_values(values: list[Any], split: str, needed: bool) -> None:
    for index, value in enumerate(values):
        if _missing(value):
            if needed:
                hint = "name a split whose labels are known"
                raise DataError(f"row {index} of split {split!r} has no label", hint=hint)
            continue
        if not isinstance(value, str | int):
            raise DataError(f"row {index} of split {split!r}: label {value!r} is a {type(value).__name__}, not a class")


def _generic(id2label: Mapping[int, str]) -> bool:
    return all(label == f"LABEL_{index}" for index, label in id2label.items())


def _mismatch(what: str, data: list[str], id2label: Mapping[int, str]) -> DataError:
    own = {label.lower(): label for label in id2label.values()}
    left = [label for label in id2label.values() if label.lower() not in {str(name).lower() for name in data}]
    pairs = {name: own.get(str(name).lower()) or (left.pop(0) if left else "?") for name in data}
    example = ", ".join(f"{name}: {label}" for name, label in pairs.items())
    return DataError(
        f"{what}\n  data:  {', '.join(map(str, data[:20]))}\n  model: {', '.join(list(id2label.values())[:20])}",
        hint=f"say which is which in the recipe's dataset: labels: {{{example[:120]}}}",
    )
