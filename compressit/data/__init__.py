"""Data set spec -> rows with role names and the model's label ids -> padded batches."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from itertools import chain
from typing import TYPE_CHECKING, Any

from compressit import tasks
from compressit.data import answers, choices, harness, labels, places, references, scores, sounds, source, tags
from compressit.data.spec import DatasetSpec
from compressit.errors import DataError
from compressit.registry import suggest
from compressit.tasks import _waveforms

if TYPE_CHECKING:
    from pathlib import Path

    import numpy as np
    from datasets import Dataset
    from numpy.typing import NDArray

    from compressit.model import Model

__all__ = [
    "DatasetSpec",
    "batched",
    "batches",
    "by_length",
    "digest",
    "fingerprints",
    "identities",
    "packages",
    "questions",
    "repeated",
    "rows",
    "singles",
]


def packages(spec: DatasetSpec, task: str) -> dict[str, str]:
    """Name optional packages that reading rows of a task needs, and the extra that brings each."""
    roles = tasks.load(task).ROLES
    found = {"lm_eval": "lm-eval"} if harness.name(spec.path) is not None else {}
    found |= {"PIL": "vision"} if "image" in roles else {}
    return found | (_waveforms.LIBRARIES if "audio" in roles else {})


def rows(
    spec: DatasetSpec, split: str, task: str, id2label: Mapping[int, str], base: Path, *, labelled: bool = True
) -> Dataset:
    """Read one split, its columns named by role and its labels turned into the model's ids.

    Args:
        spec: The recipe's data set.
        split: One of its splits, with an optional slice.
        task: Name of the task, which knows the roles.
        id2label: The model's labels.
        base: Folder that relative paths start from.
        labelled: Whether each row must have what it is judged by, such as a label; those without get a stand-in.

    Raises:
        DataError: a column is missing, a value is empty, or the labels and the model's don't agree.
        RetryableError: the hub is out of reach.
    """
    found, where = source.read(spec, split, base), places.where(spec, split, base)
    # What a model reads to learn, or to be calibrated, has to be there as well.
    labelled = labelled or tasks.decodes(task)
    roles = _columns(found, spec, task, labelled=labelled)
    found = found.select_columns(list(roles.values())).rename_columns(
        {column: role for role, column in roles.items() if column != role}
    )
    if not len(found):
        raise DataError(f"split {split!r} of {spec.path} is empty")
    if "image" in roles:
        found = source.images(found, spec, base)
    if "audio" in roles:
        found = sounds.laid_out(found, spec, base, where)
    for role in roles.keys() & {"text", "text_pair", "question", "context", "continuation"}:
        _check_text(found[role], role, where)
    if "group" in roles and labelled:
        _check_groups(found["group"], where)
    return _with_truth(found, task, id2label, spec.labels, where, labelled=labelled)


def questions(columns: Mapping[str, Sequence[Any]], task: str) -> Dataset:
    """Make rows, of columns by role, whose truth nobody knows: a stand-in takes its place; images, sounds are files."""
    import datasets

    found = datasets.Dataset.from_dict(dict(columns))
    if "image" in columns:
        found = found.cast_column("image", datasets.Image())
    if "audio" in columns:
        found = sounds.plain(found)
    return _with_truth(found, task, {}, None, places.counted, labelled=False)


def _with_truth(
    found: Dataset,
    task: str,
    id2label: Mapping[int, str],
    mapping: Mapping[str, str] | None,
    where: places.Where,
    *,
    labelled: bool,
) -> Dataset:
    """Bring what rows are judged by into the form that the task reads; give a stand-in where nobody needs it."""
    truth = tasks.truth(task)
    if truth == "tags":
        return tags.to_ids(found, id2label, mapping, where, needed=labelled)
    if truth == "answer":
        return choices.laid_out(found, where, needed=labelled)
    if truth == "answers":
        return answers.laid_out(found, where, needed=labelled)
    if tasks.decodes(task) and truth is not None:
        return references.checked(found, truth, where, needed=labelled)
    if truth == "score":
        return scores.to_numbers(found, where, needed=labelled)
    if truth == "label" and "label" not in found.column_names:
        return found.add_column("label", [labels.UNLABELLED] * len(found))
    return labels.to_ids(found, id2label, mapping, where, needed=labelled) if truth == "label" else found


def batches(
    rows: Dataset, model: Model, size: int, max_length: int | None = None, **fields: Any
) -> Iterator[tuple[list[int], dict[str, Any]]]:
    """Prepare rows for a model and give them in padded batches of tensors, each with the places of its rows.

    Texts of like lengths share a batch, so that little of it is padding. `fields` are those of the data set that the
    task reads texts by.
    """
    task = tasks.load(model.task)
    prepared = task.prepare(rows, model.processor, max_length, **fields)
    yield from batched(prepared, task.collate(model.processor), by_length(prepared), size)


def singles(rows: Dataset, model: Model, count: int, max_length: int | None = None) -> Iterator[dict[str, Any]]:
    """Prepare up to `count` rows, evenly spread over all, and give each as a batch of its own: nothing is padded."""
    task, rows = tasks.load(model.task), tasks.singly(model.task, rows)
    step = max(1, len(rows) // count)
    prepared = task.prepare(rows.select(range(0, len(rows), step)[:count]), model.processor, max_length)
    for _, batch in batched(prepared, task.collate(model.processor), range(len(prepared)), 1):
        yield batch


def batched(
    prepared: Dataset, collate: Callable[..., dict[str, Any]], order: Sequence[int], size: int
) -> Iterator[tuple[list[int], dict[str, Any]]]:
    """Collate prepared rows batch by batch in a given order."""
    for start in range(0, len(order), size):
        places = list(order[start : start + size])
        columns = prepared[places]
        yield places, collate([dict(zip(columns, row, strict=True)) for row in zip(*columns.values(), strict=True)])


def by_length(prepared: Dataset) -> list[int]:
    """Order prepared rows by their number of tokens, the longer text of a pair, or seconds; images as they come."""
    texts = [name for name in prepared.column_names if name.endswith("input_ids")]
    if "seconds" in prepared.column_names:
        long = list(prepared.with_format(None)["seconds"])
        return sorted(range(len(prepared)), key=long.__getitem__)
    if not texts:
        return list(range(len(prepared)))
    lengths = [max(map(len, tokens)) for tokens in zip(*(prepared[name] for name in texts), strict=True)]
    return sorted(range(len(prepared)), key=lengths.__getitem__)


def fingerprints(rows: Dataset) -> NDArray[np.uint64]:
    """Hash each row's content, label included: (rows,)."""
    import numpy as np

    return np.fromiter((_fingerprint(row) for row in rows), dtype=np.uint64, count=len(rows))


def digest(rows: Dataset) -> str:
    """SHA-256 over the content of all rows, in their order."""
    return hashlib.sha256(fingerprints(rows).tobytes()).hexdigest()


def identities(prepared: Dataset, rows: Dataset) -> NDArray[np.uint64]:
    """Hash each example: its row or, where examples are not rows, the sum of what they were made into: (examples,).

    Args:
        prepared: What a task made of the rows.
        rows: With role names.
    """
    import numpy as np

    if "example" not in prepared.column_names:
        return fingerprints(rows)
    owners = np.array(prepared["example"])
    sums = np.zeros(owners.max() + 1, np.uint64)
    np.add.at(sums, owners, fingerprints(prepared))
    return sums


def repeated(rows: Dataset, others: Dataset) -> int:
    """Count the rows that others hold too, whatever groups they are in; rows without any text don't count."""
    import numpy as np

    own, other = (
        fingerprints(each.remove_columns([name for name in each.column_names if name == "group"]))
        for each in (rows, others)
    )
    said = np.ones(len(rows), bool)
    if "text" in rows.column_names:
        said = np.array([bool(text.strip()) for text in rows["text"]])
    return int((np.isin(own, other) & said).sum())


def _fingerprint(row: Mapping[str, Any]) -> int:
    digest = hashlib.blake2b(digest_size=8)
    for role in sorted(row):
        value = row[role]
        picture = hasattr(value, "tobytes")
        content = f"{value.mode} {value.size}".encode() + value.tobytes() if picture else str(value).encode()
        content = _waveforms.content(value) if role == "audio" else content
        digest.update(role.encode() + len(content).to_bytes(8, "little") + content)
    return int.from_bytes(digest.digest(), "little")


def _columns(found: Dataset, spec: DatasetSpec, task: str, *, labelled: bool) -> dict[str, str]:
    wanted = _wanted(found, spec, task)
    roles = {}
    for role, required in wanted.items():
        column = spec.columns.get(role, role)
        if column in found.column_names:
            roles[role] = column
        elif (required or role in spec.columns) and (labelled or role not in tasks.judged_by(task)):
            raise DataError(
                f"{spec.path} has no column {column!r} for {role}{suggest(column, found.column_names)}",
                hint=f"name it in the recipe: columns: {{{role}: COLUMN}}; there are {', '.join(found.column_names)}",
            )
    return roles


def _wanted(found: Dataset, spec: DatasetSpec, task: str) -> dict[str, bool]:
    """Give the roles to look for; of groups of which the data has one, that one, required."""
    module = tasks.load(task)
    roles: dict[str, bool] = module.ROLES
    kinds: tuple[tuple[str, ...], ...] = getattr(module, "CHOICES", ())
    if not kinds:
        return roles
    named = [group for group in kinds if spec.columns.keys() & set(group)]
    there = named or [
        group for group in kinds if all(spec.columns.get(role, role) in found.column_names for role in group)
    ]
    if len(there) != 1:
        groups = ", ".join(" and ".join(group) for group in (there or kinds))
        raise DataError(
            f"{spec.path} has {'more than one kind of row' if there else 'no kind of row'} for {task}: {groups}",
            hint=f"name the columns in the recipe: columns: {{{kinds[0][0]}: COLUMN}}; "
            f"there are {', '.join(found.column_names)}",
        )
    rest = {role: needed for role, needed in roles.items() if role not in set(chain(*kinds))}
    return rest | dict.fromkeys(there[0], True)


def _check_groups(values: Any, where: places.Where) -> None:
    for index, value in enumerate(values):
        if not isinstance(value, str | int):
            shown = "empty" if value is None else f"{str(value)[:40]}, neither text nor a whole number"
            raise DataError(f"{where(index)}: group is {shown}")


def _check_text(values: Any, role: str, where: places.Where) -> None:
    for index, value in enumerate(values):
        if not isinstance(value, str):
            shown = "empty" if value is None else f"{str(value)[:40]}, not text"
            raise DataError(f"{where(index)}: {role} is {shown}")
