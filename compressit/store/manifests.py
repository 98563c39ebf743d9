"""What a folder's manifest says of its files, and whether it is so."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

from compressit.errors import IntegrityError, UnsafeError
from compressit.store import files

MANIFEST = "manifest.json"
FORMAT = 1


def manifest(folder: Path) -> dict[str, Any]:
    """Read a result's manifest."""
    file = folder / MANIFEST
    if not file.is_file():
        raise IntegrityError(f"{folder} holds no {MANIFEST}: not a finished result of compressit")
    try:
        return parsed(file.read_bytes(), str(file))
    except OSError as error:
        raise IntegrityError(f"{file} can't be read: {error}") from error


def parsed(content: bytes, file: str) -> dict[str, Any]:
    """Read what a manifest holds; `file` names it where it can't be read."""
    try:
        found = json.loads(content.decode("utf-8"))
        version, listed = found["format"], found["files"]
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        raise IntegrityError(f"{file} can't be read: {error}") from error
    if version != FORMAT:
        raise IntegrityError(f"{file} has format {str(version)[:40]}; this version reads format {FORMAT}")
    if not isinstance(listed, dict) or not all(_is_entry(name, entry) for name, entry in listed.items()):
        raise IntegrityError(f"{file} can't be read: an entry doesn't say size and SHA-256 of a file")
    return dict(found)


def _is_entry(name: str, entry: Any) -> bool:
    named = name.isprintable() and all(len(os.fsencode(part)) <= 255 for part in Path(name).parts)
    said = isinstance(entry, dict) and type(entry.get("size")) is int and isinstance(entry.get("sha256"), str)
    return named and said


def amend(folder: Path, texts: Mapping[str, str]) -> None:
    """Put texts into a result, new or in place of old ones, and then its manifest, each whole or not at all.

    Killed in between, it leaves a manifest that doesn't know the new texts, as `verify` says; the same call mends it.

    Args:
        folder: A finished result.
        texts: By their path below the folder.

    Raises:
        UnsafeError: a path leads out of the folder.
        StepError: the disk is full or can't be written.
    """
    said = manifest(folder)
    mask = os.umask(0)
    os.umask(mask)
    try:
        for name, text in texts.items():
            file = folder / name
            if not file.parent.resolve().is_relative_to(folder.resolve()) or name == MANIFEST:
                raise UnsafeError(f"{file} lies outside the result's own files; it won't be written")
            said["files"][name] = _put(file, text, mask)
        _put(folder / MANIFEST, json.dumps(said, indent=1) + "\n", mask)
    except OSError as error:
        raise files.explained(error, folder) from error


def _put(file: Path, text: str, mask: int) -> dict[str, Any]:
    """Write a text durably under another name, then give it its own; say size and SHA-256."""
    file.parent.mkdir(exist_ok=True)
    half = file.with_name(f".{file.name}.half")
    half.unlink(missing_ok=True)
    half.write_text(text, encoding="utf-8", newline="\n")
    half.chmod(0o666 & ~mask)
    entry = {"size": half.stat().st_size, "sha256": files.digest(half)}
    files.sync(half)
    os.replace(half, file)
    files.sync(file.parent)
    return entry


def verify(folder: Path, names: Collection[str] | None = None) -> list[str]:
    """Compare a result with its manifest; list what differs, nothing if all is well.

    Args:
        folder: A finished result.
        names: The files to look at (default: all of them).
    """
    listed = manifest(folder)["files"]
    if names is not None:
        unknown = [f"{name}: not in the manifest" for name in sorted(names) if name not in listed]
        return unknown + _differences(folder, {name: entry for name, entry in listed.items() if name in names})
    wrong = _differences(folder, listed)
    known = {*listed, MANIFEST}
    found = [file.relative_to(folder).as_posix() for file in files.inside(folder)]
    wrong += [f"{link.relative_to(folder)}: a symbolic link" for link in folder.rglob("*") if link.is_symlink()]
    return wrong + [f"{name}: not in the manifest" for name in found if name not in known]


def _differences(folder: Path, listed: Mapping[str, Mapping[str, Any]]) -> list[str]:
    wrong = []
    for name, entry in listed.items():
        file = folder / name
        if Path(name).is_absolute() or ".." in Path(name).parts or file.is_symlink():
            wrong.append(f"{name}: lies outside the folder")
        elif not file.is_file():
            wrong.append(f"{name}: missing")
        elif file.stat().st_size != entry["size"]:
            wrong.append(f"{name}: {file.stat().st_size:,} bytes, {entry['size']:,} expected")
        elif files.digest(file) != entry["sha256"]:
            wrong.append(f"{name}: its content changed (SHA-256)")
    return wrong


def check(folder: Path, names: Collection[str] | None = None) -> None:
    """Raise IntegrityError unless a result, or the files of it that are named, are as its manifest says."""
    wrong = verify(folder, names)
    if wrong:
        raise IntegrityError(f"{folder} is not as it was saved:\n  " + "\n  ".join(wrong))


def content_key(folder: Path) -> str:
    """SHA-256 over the names and contents of a folder's files."""
    whole = hashlib.sha256()
    for file in files.inside(folder):
        whole.update(f"{file.relative_to(folder).as_posix()}\0{files.digest(file)}\n".encode())
    return whole.hexdigest()
