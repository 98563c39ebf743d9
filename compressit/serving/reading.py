"""Rows of a file for prediction, a chunk at a time, as they stand there; what is wrong with one names its line."""

from __future__ import annotations

import csv
import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from compressit import tasks
from compressit.data.source import READERS
from compressit.errors import DataError
from compressit.recipe import Recipe
from compressit.registry import suggest

TEXTS = ("text", "text_pair", "question", "context")
FILES = {"image": "an image", "audio": "a sound"}
"""Roles whose values are files."""
LONGEST_CELL = 1 << 30


class Row(NamedTuple):
    """One row, and where it stands: "line 12", or "row 12" of a file without lines."""

    where: str
    values: dict[str, Any]


def rows(file: Path) -> Iterator[Row]:
    """Read a file of JSON lines, csv, tsv or parquet row by row; blank lines are no rows.

    Raises:
        DataError: it can't be read; the message names the line.
    """
    readers = {"json": _json, "csv": _csv, "parquet": _parquet}
    read = readers.get(READERS.get(file.suffix.lower(), ""))
    if read is None:
        known = [suffix for suffix, kind in READERS.items() if kind in readers]
        raise DataError(f"{file}: unknown kind of file; expected {', '.join(known)}")
    if not file.is_file():
        raise DataError(f"there is no file {file}")
    try:
        yield from read(file)
    except UnicodeDecodeError as error:
        raise DataError(f"{file} is not UTF-8: {error}") from error
    except OSError as error:
        raise DataError(f"{file} can't be read: {error.strerror or error}") from error


def columns(file: Path, recipe: Recipe, named: Mapping[str, str], *, lone: bool) -> dict[str, str]:
    """Find the file's column for each role that the task needs to predict.

    What is named here counts first, then what the recipe named, then the role's own name.

    Args:
        file: With a first row.
        recipe: Of the run.
        named: Column by role.
        lone: Whether a pair's second text is left out.

    Raises:
        DataError: one isn't there, or a role isn't one of the task's, or the file has no rows.
    """
    module, judged = tasks.load(recipe.task), tasks.judged_by(recipe.task)
    roles = {
        role: required
        for role, required in module.ROLES.items()
        if (role == "text_pair" and not lone) or (role != "text_pair" and role not in judged)
    }
    for role in named:
        if role not in roles:
            raise DataError(f"--columns {role}=...: not a role of {recipe.task} here{suggest(role, list(roles))}")
    first = next(rows(file), None)
    if first is None:
        raise DataError(f"{file} holds no rows")
    there, found = list(first.values), {}
    asked = recipe.dataset.columns if recipe.dataset is not None else {}
    for role, required in roles.items():
        choices = [named[role]] if role in named else [asked.get(role, role), role]
        column = next((name for name in choices if _holds(first.values, name)), None)
        if column is not None:
            found[role] = column
        elif required or role in named:
            raise DataError(
                f"{file} has no column {choices[0]!r} for {role}{suggest(choices[0], there)}",
                hint=f"name it: --columns {role}=COLUMN; there are {', '.join(there)}",
            )
    return found


def value(role: str, row: Row, column: str, file: Path) -> Any:
    """Take a row's value for a role, in the form that the task reads.

    Raises:
        DataError: it is missing, empty or of another type.
    """
    where = f"{row.where} of {file}"
    if not _holds(row.values, column):
        raise DataError(f"{where} has no {column!r}")
    found = _held(row.values, column)
    if found is None or (isinstance(found, str) and not found.strip()):
        raise DataError(f"{where}: {column} is empty")
    if role in TEXTS and not isinstance(found, str):
        raise DataError(f"{where}: {column} is {_short(found)}, not text")
    if role == "tokens":
        words = found.split() if isinstance(found, str) else found
        if not isinstance(words, list) or not words or not all(isinstance(word, str) and word for word in words):
            raise DataError(f"{where}: {column} is {_short(found)}, neither text nor a list of words")
        return words
    if role == "audio" and isinstance(found, dict) and found.get("array") is not None:
        return found
    return _placed(found, where, column, file, role) if role in FILES else found


def _placed(found: Any, where: str, column: str, file: Path, role: str) -> Any:
    """Give an image's or a sound's file, whose path starts from the folder of the rows, or its bytes."""
    if isinstance(found, dict) and found.get("bytes"):
        return {"bytes": found["bytes"], "path": None}
    path = found.get("path") if isinstance(found, dict) else found
    if not isinstance(path, str):
        raise DataError(f"{where}: {column} is {_short(found)}, not the path of {FILES[role]}")
    place = file.parent / path
    if not place.is_file():
        raise DataError(f"{where}: there is no {role} file {place}")
    return str(place) if role == "image" else {"bytes": None, "path": str(place)}


def _holds(values: Mapping[str, Any], column: str) -> bool:
    """Tell whether a row has a column, or a field of one as `translation.de` names it."""
    outer, _, inner = column.partition(".")
    return column in values or (isinstance(values.get(outer), dict) and _holds(values[outer], inner))


def _held(values: Mapping[str, Any], column: str) -> Any:
    outer, _, inner = column.partition(".")
    return values[column] if column in values else _held(values[outer], inner)


def _short(found: Any) -> str:
    return str(found)[:40]


def _json(file: Path) -> Iterator[Row]:
    with file.open(encoding="utf-8-sig") as lines:
        for number, line in enumerate(lines, 1):
            if not line.strip():
                continue
            try:
                values = json.loads(line)
            except (ValueError, RecursionError) as error:
                one = number == 1 and line.lstrip().startswith("[")
                hint = "write one object a line, as JSON lines" if one else None
                raise DataError(f"line {number} of {file} is not JSON: {error}", hint=hint) from error
            if not isinstance(values, dict):
                hint = "write one object a line, as JSON lines"
                raise DataError(f"line {number} of {file} is not an object", hint=hint)
            if "\\ud" in line.lower() and not _written(values):
                raise DataError(f"line {number} of {file} holds half a character: \\ud... without its other half")
            yield Row(f"line {number}", values)


def _written(values: dict[str, Any]) -> bool:
    """Tell whether what was read can be written again, as half of a surrogate pair can't."""
    try:
        json.dumps(values, ensure_ascii=False).encode()
    except UnicodeEncodeError:
        return False
    return True


def _csv(file: Path) -> Iterator[Row]:
    csv.field_size_limit(LONGEST_CELL)
    with file.open(encoding="utf-8-sig", newline="") as lines:
        reader = csv.DictReader(lines, delimiter="\t" if file.suffix.lower() == ".tsv" else ",", strict=True)
        try:
            names = list(reader.fieldnames or ())
            twice = next((name for name in names if names.count(name) > 1), None)
            if twice is not None:
                raise DataError(f"{file} has two columns {twice!r}", hint="give one of them another name")
            for values in reader:
                if None in values:
                    raise DataError(f"line {reader.line_num} of {file} has more cells than the header")
                yield Row(f"line {reader.line_num}", dict(values))
        except csv.Error as error:
            raise DataError(f"line {reader.line_num} of {file} can't be read: {error}") from error


def _parquet(file: Path) -> Iterator[Row]:
    import pyarrow
    from pyarrow import parquet

    number = 0
    try:
        with parquet.ParquetFile(file) as opened:
            for batch in opened.iter_batches(batch_size=1024):
                for values in batch.to_pylist():
                    number += 1
                    yield Row(f"row {number}", values)
    except pyarrow.ArrowInvalid as error:
        raise DataError(f"{file} can't be read: {' '.join(str(error).split())[:200]}") from error
