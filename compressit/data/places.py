"""Where a row stands in what it was read from: its line in a file read by line, from 1 as editors count."""

from __future__ import annotations

import csv
from collections.abc import Callable, Iterator
from pathlib import Path

from compressit.data import source
from compressit.data.spec import SPLIT, DatasetSpec

Where = Callable[[int], str]
"""Says where a row stands, for a message, by its place among those read, from 0."""


def where(spec: DatasetSpec, split: str, base: Path) -> Where:
    """Make what says where the rows of a split stand. Its file is read again, but only for a row that is asked for."""

    def found(index: int) -> str:
        return _line(spec, split, base, index) or f"row {index + 1} of split {split!r}"

    return found


def counted(index: int) -> str:
    """Say where a row of no file stands."""
    return f"row {index + 1}"


def _line(spec: DatasetSpec, split: str, base: Path, index: int) -> str | None:
    """Name a row's line; None where it was not read by line."""
    file, written = source.file(spec, split, base), SPLIT.fullmatch(split)
    if file is None or written is None:
        return None
    kind = source.READERS.get(file.suffix.lower())
    try:
        numbers = list({"json": _json, "csv": _csv}[kind](file)) if kind in ("json", "csv") else []
    except (OSError, ValueError, csv.Error):
        return None
    place = source.position(written["start"], len(numbers), 0) + index
    return f"line {numbers[place]} of {file}" if place < len(numbers) else None


def _json(file: Path) -> Iterator[int]:
    """Number the lines that hold rows; none where the file is one list."""
    with file.open(encoding="utf-8-sig") as lines:
        for number, line in enumerate(lines, 1):
            text = line.strip()
            if text and not (text.startswith("{") and text.endswith("}")):
                return
            if text:
                yield number


def _csv(file: Path) -> Iterator[int]:
    """Number the lines on which rows end."""
    with file.open(encoding="utf-8-sig", newline="") as lines:
        reader = csv.DictReader(lines, delimiter="\t" if file.suffix.lower() == ".tsv" else ",")
        for _ in reader:
            yield reader.line_num
