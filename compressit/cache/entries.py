"""Where checkpoints of finished steps lie, and that they are what was put there."""

from __future__ import annotations

import contextlib
import os
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from compressit import store
from compressit.cache.keys import Made, key
from compressit.errors import CompressitError, IntegrityError, RetryableError
from compressit.sharing import share


@dataclass(frozen=True)
class Entry:
    """A kept checkpoint.

    Attributes:
        made: All that made it.
        bytes: What it takes, files that others share included.
        used: When it was made or used last, in seconds since 1970; only tells which to let go first.
    """

    folder: Path
    made: Made
    bytes: int
    used: float

    @property
    def key(self) -> str:
        """Its name."""
        return self.folder.name


def place() -> Path:
    """Folder of all entries."""
    return store.home() / "steps"


def entries() -> list[Entry]:
    """List what is kept, the most recently used first; what can't be read is left out."""
    found = []
    for folder in place().glob("[0-9a-f]*"):
        with contextlib.suppress(OSError, CompressitError, KeyError, TypeError, AttributeError):
            said = store.manifest(folder)
            size = sum(int(file["size"]) for file in said["files"].values())
            found.append(Entry(folder, dict(said["made"]), size, folder.stat().st_mtime))
    return sorted(found, key=lambda entry: -entry.used)


def put(made: Made, write: Callable[[Path], None]) -> None:
    """Keep a checkpoint, unless one is kept or another process is just doing so.

    Args:
        made: All that made it.
        write: Writes it into an empty folder.

    Raises:
        StepError: the disk is full or can't be written.
    """
    if kept(made):
        return
    target = place() / key(made)
    remove(target)
    with contextlib.suppress(RetryableError), store.staged(target, about={"made": made}) as folder:
        write(folder)


def kept(made: Made) -> bool:
    """Tell whether a checkpoint is there; `find` looks whether it is as it was."""
    return (place() / key(made) / store.MANIFEST).is_file()


def find(made: Made, say: Callable[[str], None]) -> Path | None:
    """Give the folder of a checkpoint if it is kept, and as it was when it was put there.

    One that isn't is thrown away, and said.
    """
    folder = place() / key(made)
    if not folder.is_dir():
        return None
    try:
        store.check(folder)
        os.utime(folder)
    except (OSError, IntegrityError) as error:
        said = error.message if isinstance(error, IntegrityError) else str(error)
        say(f"warning: a kept checkpoint is thrown away: {said}")
        remove(folder)
        return None
    return folder


def take(made: Made, target: Path, say: Callable[[str], None]) -> bool:
    """Give a kept checkpoint, as `find` finds it, a second name that nobody else removes; tell whether there is one."""
    found = find(made, say)
    if found is None:
        return False
    try:
        share(found, target)
    except FileNotFoundError:
        # Somebody let it go this very moment.
        shutil.rmtree(target, ignore_errors=True)
        return False
    return True


def collect(most: int) -> list[Entry | store.Left]:
    """Let go what was not used for longest, until no more than so many bytes are kept; give what went.

    What killed runs can go on from counts, too; what a live one has does not.
    """
    store.sweep_all(place())
    every: list[Entry | store.Left] = [*entries(), *store.left()]
    gone: list[Entry | store.Left] = []
    total = 0
    for each in sorted(every, key=lambda each: -each.used):
        total += each.bytes
        if total > most:
            remove(each.folder)
            gone.append(each)
    return gone


def remove(folder: Path) -> None:
    """Take an entry's name away before its files, so that nobody finds half of it; nothing happens without one."""
    with contextlib.suppress(OSError):
        store.discard(folder)
