"""Files on their way to the disk: what they hold, that they are there for good, and why they can't be."""

from __future__ import annotations

import errno
import hashlib
import os
from pathlib import Path

from compressit import machine
from compressit.errors import StepError


def inside(folder: Path) -> list[Path]:
    """List the files below a folder that count, those with a dot in front left out."""
    return sorted(path for path in folder.rglob("*") if path.is_file() and not path.name.startswith("."))


def stamps(folder: Path) -> frozenset[tuple[str, int, int]]:
    """Give names, sizes and times of change of a folder's files: what tells at no cost that one was changed."""
    found = ((path, path.stat()) for path in inside(folder))
    return frozenset((str(path), about.st_size, about.st_mtime_ns) for path, about in found)


def digest(file: Path) -> str:
    """SHA-256 of a file's content."""
    with file.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def sync(path: Path) -> None:
    """Have a file, or the names in a folder, outlive a loss of power."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def nearest(path: Path) -> Path:
    """Give the folder that a path will lie in, as far as it is there."""
    return next(parent for parent in (path.absolute(), *path.absolute().parents) if parent.is_dir())


def explained(error: OSError, target: Path) -> StepError:
    """Say why something could not be written."""
    if error.errno not in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EROFS, errno.EACCES, errno.EPERM, errno.EIO):
        return StepError(f"the run to {target} failed: {error}")
    free = machine.free_disk(nearest(target))
    return StepError(
        f"writing {error.filename or target} failed: {error.strerror or error} ({free:,} bytes free)",
        hint="earlier results are untouched; free some space, or choose another folder with -o",
    )
