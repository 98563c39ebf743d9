"""Open a split: a built-in demo, a task of the evaluation harness, a local file or folder, or a data set of the hub."""

from __future__ import annotations

import csv
import hashlib
import itertools
import json
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from compressit import registry
from compressit.data import harness, sounds
from compressit.data.refusing import first, refusal
from compressit.data.spec import SPLIT, DatasetSpec
from compressit.errors import DataError
from compressit.registry import suggest
from compressit.spec import home

if TYPE_CHECKING:
    from types import ModuleType

    from datasets import Dataset, DatasetDict

DEMOS = "compressit.data.demos"
READERS = {".csv": "csv", ".tsv": "csv", ".json": "json", ".jsonl": "json", ".ndjson": "json", ".parquet": "parquet",
           ".arrow": "arrow"}  # fmt: skip
TEXT = ".txt"
"""A text file is one document, as it stands; a slice of it counts lines."""
FILES = (*READERS, TEXT)
PEEKED = 1000
"""Lines looked at for the columns of JSON lines, which need not all have the same."""
LINES = (".jsonl", ".ndjson")
DEEPEST = 500
"""Levels that a row of JSON may have."""
PICTURES = (".png", ".jpg", ".jpeg", ".webp", ".gif", ".bmp", ".tif", ".tiff")
ARCHIVES = (".zip", ".tar", ".gz", ".tgz", ".bz2", ".xz", ".7z")


def demo(path: str) -> ModuleType | None:
    """Find the demo that `demo:NAME` means; None for any other path."""
    if not path.startswith("demo:"):
        return None
    name = path.removeprefix("demo:")
    if name not in registry.names(DEMOS):
        raise DataError(f"there is no demo {name!r}{suggest(name, registry.names(DEMOS))}")
    return registry.load(DEMOS, name)


def local(spec: DatasetSpec, base: Path) -> Path:
    """Give the file or folder that a data set's path is, where it is one."""
    return base / home(spec.path)


def file(spec: DatasetSpec, split: str, base: Path) -> Path | None:
    """Find the one file that a split is read from; None where there are several, or it is a demo's or the hub's."""
    found = SPLIT.fullmatch(split)
    return _in(local(spec, base), found["name"]) if found and not spec.path.startswith("demo:") else None


def read(spec: DatasetSpec, split: str, base: Path) -> Dataset:
    """Open one split of a data set and take its slice."""
    found = SPLIT.fullmatch(split)
    assert found is not None, "the recipe checks how splits are written"
    name = found["name"]
    builtin = demo(spec.path)
    place = local(spec, base)
    one = file(spec, split, base)
    harness_task = harness.name(spec.path)
    if harness_task is not None:
        whole = harness.read(harness_task, name, spec.shots or 0)
    elif builtin is not None:
        splits = builtin.splits()
        if name not in splits:
            raise DataError(f"{spec.path} has no split {name!r}{suggest(name, list(splits))}")
        whole = splits[name]
    elif one is not None:
        if one == place and name != "train":
            raise DataError(
                f"{spec.path} is one file, whose only split is train; there is no {name!r}",
                hint="take slices of it, train[:80%] and train[80%:], or name the folder and a file for each split",
            )
        whole = _file(one)
    else:
        if not place.is_dir() and Path(spec.path).is_dir():
            raise DataError(
                f"{spec.path} is a folder where this runs, and no folder where the recipe lies, {base}",
                hint="name it from there or by its whole path; for the hub's, run from elsewhere",
            )
        whole = _open(str(place) if place.is_dir() else spec.path, spec, name)
    whole = _flat(whole, spec)
    start, stop = (position(found[end], len(whole), default) for end, default in (("start", 0), ("stop", len(whole))))
    if start >= stop:
        raise DataError(f"split {split!r} of {spec.path} is empty: {name} has {len(whole)} examples")
    chosen = whole.select(range(start, stop))
    return _document(chosen) if one is not None and one.suffix.lower() == TEXT else chosen


def columns(spec: DatasetSpec, split: str, base: Path) -> list[str] | None:
    """Name the columns of a split without opening it, and their fields; None where the start of one file can't tell."""
    one = file(spec, split, base)
    try:
        if one is None or READERS.get(one.suffix.lower()) not in ("csv", "json"):
            return None
        with one.open(encoding="utf-8-sig", newline="") as lines:
            if READERS[one.suffix.lower()] == "csv":
                return next(csv.reader(lines, delimiter="\t" if one.suffix.lower() == ".tsv" else ","), None)
            rows = [json.loads(line) for line in itertools.islice(lines, PEEKED) if line.strip()]
    except (OSError, ValueError, csv.Error):
        return None
    whole = bool(rows) and all(isinstance(row, dict) for row in rows)
    return list(dict.fromkeys(name for row in rows for name in _spelled(row))) if whole else None


def _spelled(row: dict[str, Any]) -> Iterator[str]:
    """Name what a row holds, fields of fields with a dot."""
    for key, value in row.items():
        yield key
        if isinstance(value, dict):
            yield from (f"{key}.{inner}" for inner in _spelled(value))


def _flat(rows: Dataset, spec: DatasetSpec) -> Dataset:
    """Make columns of the fields of columns, where the recipe names one."""
    inside = [
        name
        for name in spec.columns.values()
        if name not in rows.column_names and name.partition(".")[0] in rows.column_names
    ]
    return rows.flatten() if inside else rows


def images(rows: Dataset, spec: DatasetSpec, base: Path) -> Dataset:
    """Make sure the image column decodes; file names start from the data set's folder."""
    import datasets

    if isinstance(rows.features["image"], datasets.Image):
        return rows
    folder = base / home(spec.path)
    folder = folder if folder.is_dir() else folder.parent

    def absolute(row: dict[str, Any]) -> dict[str, Any]:
        file = folder / str(row["image"])
        if not file.is_file():
            raise DataError(f"there is no image file {file}")
        return {"image": str(file)}

    return rows.map(absolute, desc=None).cast_column("image", datasets.Image())


def _in(local: Path, split: str) -> Path | None:
    """Find the one file that holds a split: the place itself, a file of the folder, or its text file of that name."""
    places = (local, local / split, local / f"{split}{TEXT}")
    return next((file for file in places if file.is_file()), None)


def _document(lines: Dataset) -> Dataset:
    import datasets

    return datasets.Dataset.from_dict({"text": ["".join(lines["text"])]})


def _refuse_archives(files: Iterable[Path]) -> None:
    """Refuse what the library would unpack by itself, whatever it is called: nobody knows how large that gets."""
    from datasets.utils.extract import Extractor

    for file in files:
        if file.suffix.lower() not in PICTURES and Extractor.infer_extractor_format(file):
            raise DataError(f"{file} is an archive", hint="unpack it first, and name what was in it")


def _file(file: Path) -> Dataset:
    import datasets

    _refuse_archives([file])
    if file.suffix.lower() == TEXT:
        try:
            return datasets.Dataset.from_dict({"text": file.read_text(encoding="utf-8").splitlines(keepends=True)})
        except (OSError, ValueError) as error:
            raise DataError(f"{file} can't be read: {first(error)}") from error
    kind = READERS.get(file.suffix.lower())
    if kind is None:
        raise DataError(f"{file}: unknown kind of file; expected {', '.join(FILES)}")

    options = {"sep": "\t"} if file.suffix.lower() == ".tsv" else {}
    try:
        if kind == "json":
            _refuse_deep(file)
        return datasets.load_dataset(kind, data_files={"train": str(file)}, split="train", **options)
    except (OSError, ValueError, StopIteration, datasets.exceptions.DatasetGenerationError) as error:
        wrong = _line(file) if file.suffix.lower() in LINES else ""
        raise DataError(f"{file} can't be read: {wrong or first(error)}") from error


def _refuse_deep(file: Path) -> None:
    """Refuse JSON so deep that the library that reads it would run out of stack, and the process end with it."""
    with file.open("rb") as lines:
        for number, line in enumerate(lines, 1):
            opened = line.count(b"[") + line.count(b"{")
            if opened > DEEPEST and _depth(line) > DEEPEST:
                raise DataError(f"line {number} of {file} is nested more than {DEEPEST} levels deep")


def _depth(line: bytes) -> int:
    """Count how deep brackets lie in each other, those in texts included."""
    steps = (1 if byte in b"[{" else -1 for byte in line if byte in b"[]{}")
    return max(itertools.accumulate(steps), default=0)


def _line(file: Path) -> str:
    """Name the first of JSON lines that is no JSON; empty where there is none."""
    try:
        with file.open(encoding="utf-8-sig") as lines:
            for number, line in enumerate(lines, 1):
                try:
                    json.loads(line.strip() or "{}")
                except ValueError as error:
                    return f"line {number} is not JSON: {error}"
    except (OSError, ValueError):
        return ""
    return ""


def _open(path: str, spec: DatasetSpec, split: str) -> Dataset:
    import datasets

    local, cache, heard = Path(path).is_dir(), None, False
    if not local and ("://" in path or path.endswith(ARCHIVES)):
        raise DataError(f"{path}: not a hub id", hint="download and unpack it first, then name the local folder")
    if local:
        files = sorted(file for file in Path(path).rglob("*") if file.is_file())
        _refuse_archives(files)
        cache, heard = str(_cache(Path(path), files)), sounds.among(files)
    try:
        whole = sounds.folder(path, spec, cache) if heard else None
        whole = whole or datasets.load_dataset(path, name=spec.name, revision=spec.revision, cache_dir=cache)
    except (OSError, ValueError, RuntimeError, StopIteration, datasets.exceptions.DatasetsError) as error:
        whole = _sounds(path, spec) if not local and sounds.DECODER in first(error) else None
        if whole is None:
            raise refusal(path, error, local=local) from error
    if split not in whole:
        raise DataError(
            f"{path} has no split {split!r}{suggest(split, [str(name) for name in whole])}",
            hint="a split is a name the data set knows, or a file inside its folder",
        )
    return whole[split]


def _cache(folder: Path, files: Iterable[Path]) -> Path:
    """Say where what is read of a folder is cached: elsewhere once a file is another.

    By itself the library goes by the folder's last name where a README says which files are which split, and so gives
    rows as they were before they were edited, or those of a folder of that name elsewhere.
    """
    import datasets

    whole = hashlib.sha256(str(folder.resolve()).encode())
    for file in files:
        seen = file.stat()
        whole.update(f"\0{file.relative_to(folder)}\0{seen.st_size}\0{seen.st_mtime_ns}".encode())
    return Path(datasets.config.HF_DATASETS_CACHE) / f"local-{whole.hexdigest()[:32]}"


def _sounds(path: str, spec: DatasetSpec) -> DatasetDict | None:
    """Open a folder of sounds on the hub, for which the library wants a decoder, without one."""
    import datasets

    try:
        return sounds.folder(path, spec)
    except (OSError, ValueError, datasets.exceptions.DatasetsError) as error:
        raise refusal(path, error) from error


def position(text: str | None, total: int, default: int) -> int:
    """Read an end of a slice, a number or a percentage of the rows."""
    if text is None:
        return default
    number = int(text.rstrip("%"))
    return min(total, round(total * number / 100) if text.endswith("%") else number)
