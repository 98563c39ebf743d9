"""The data's labels -> the model's ids. Names that disagree are an error: a swapped map looks like a bad model.

Numbers are the model's ids as they are. Names are matched without regard to case; a recipe's `labels` says which
model label each label of the data means.
"""

from __future__ import annotations

import difflib
import math
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from compressit.data.places import Where
from compressit.errors import DataError

if TYPE_CHECKING:
    from datasets import Dataset


SHOWN, PAIRS = 20, 5
"""Labels that a message lists, and for how many of them its hint says what to write."""
UNLABELLED = -100
"""What stands for a label that nobody knows; losses pass it over."""


def to_ids(
    rows: Dataset, id2label: Mapping[int, str], mapping: Mapping[str, str] | None, where: Where, *, needed: bool = True
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
    _check_values(values, where, needed)
    known = {value for value in values if not _missing(value)}
    first = {value: len(values) - 1 - index for index, value in enumerate(values[::-1])}
    ids = table(sorted(known, key=str), names, id2label, mapping, lambda value: f" ({where(first[value])})") | {
        None: UNLABELLED,
        -1: UNLABELLED,
    }
    replaced = [ids[value] for value in values]
    return rows.remove_columns("label").add_column("label", replaced)


def table(
    values: list[Any],
    names: list[str] | None,
    id2label: Mapping[int, str],
    mapping: Mapping[str, str] | None,
    place: Callable[[Any], str] = lambda value: "",
) -> dict[Any, int]:
    """Give the model's id of each label of the data.

    Args:
        values: The labels that occur.
        names: What they are called, where they are numbers that have names.
        id2label: The model's labels.
        mapping: The recipe's `labels`.
        place: Where each label occurs first, for the message.

    Raises:
        DataError: they don't agree; the message shows both.
    """
    spelled = {value: str(names[value]) if names and isinstance(value, int) else str(value) for value in values}
    by_name = {label.lower(): index for index, label in id2label.items()}
    if mapping is not None:
        unknown = [label for label in mapping.values() if label.lower() not in by_name]
        left = [name for name in spelled.values() if name not in mapping and name.lower() not in by_name]
        if unknown or left:
            what = f"the model has no {', '.join(unknown)}" if unknown else f"no line for {_some(left)}"
            raise _mismatch(f"labels: {what}", list(spelled.values()), id2label, left or None)
        return {value: by_name[mapping.get(name, name).lower()] for value, name in spelled.items()}
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
            what = f"label {beyond[0]} is not one of the model's ids{place(beyond[0])}"
            raise _mismatch(what, list(spelled.values()), id2label)
        return {value: int(value) for value in values}
    strange = [value for value, name in spelled.items() if name.lower() not in by_name]
    if strange:
        what = f"the model has no label {spelled[strange[0]]!r}{place(strange[0])}"
        raise _mismatch(what, list(spelled.values()), id2label, [spelled[value] for value in strange])
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


def _check_values(values: list[Any], where: Where, needed: bool) -> None:
    for index, value in enumerate(values):
        if _missing(value):
            if needed:
                hint = "name a split whose labels are known"
                raise DataError(f"{where(index)} has no label", hint=hint)
            continue
        if not isinstance(value, str | int):
            raise DataError(f"{where(index)}: label {value!r} is a {type(value).__name__}, not a class")


def _generic(id2label: Mapping[int, str]) -> bool:
    return all(label == f"LABEL_{index}" for index, label in id2label.items())


def _mismatch(
    what: str, data: Sequence[str], id2label: Mapping[int, str], unmatched: Sequence[str] | None = None
) -> DataError:
    """Say what doesn't agree, both sides, and what to write for the labels that are `unmatched` (default: all)."""
    own = {label.lower(): label for label in id2label.values()}
    taken = {name.lower() for name in data}
    left = [label for label in id2label.values() if label.lower() not in taken]
    wanted = data if unmatched is None else unmatched
    pairs = {name: own.get(name.lower()) or _like(name, left) for name in wanted[:PAIRS]}
    example = ", ".join(f"{name}: {label}" for name, label in pairs.items())
    more = f", and so on for {len(wanted) - PAIRS:,} more" if len(wanted) > PAIRS else ""
    return DataError(
        f"{what}\n  data:  {_some(data)}\n  model: {_some(list(id2label.values()))}",
        hint=f"say which is which in the recipe's dataset: labels: {{{example}}}{more}",
    )


def _like(name: str, left: list[str]) -> str:
    """Take the label most like a name, or the first that no other has."""
    near = difflib.get_close_matches(name, left, 1)
    if not left:
        return "LABEL"
    return left.pop(left.index(near[0]) if near else 0)


def _some(names: Sequence[str]) -> str:
    shown = ", ".join(str(name)[:40] for name in names[:SHOWN])
    return f"{shown} and {len(names) - SHOWN:,} more" if len(names) > SHOWN else shown
