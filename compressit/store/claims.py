"""What a killed run can go on from.

Whose it is stands in a folder's name, and is changed by a rename, which only one of two can do; no lock is taken, so
none can lie or be left behind. Where two begin at the very same time both may work: that costs time and nothing else.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from compressit.store import owners, uploading
from compressit.store.beating import beating
from compressit.store.places import home
from compressit.store.publishing import restore, sweep_all
from compressit.store.remote import Remote


@dataclass(frozen=True)
class Left:
    """What a killed run can go on from, which no live one has.

    Attributes:
        used: When it was written to last, in seconds since 1970; only tells which to let go first.
    """

    folder: Path
    bytes: int
    used: float


PAUSE = 0.5
"""Seconds between two looks at what another process does."""
BEAT = 10
"""Seconds after which whoever has a folder touches it."""
PATIENCE = 180
"""Seconds of this machine's clock without a touch after which a process of another host is held to be dead."""


@contextlib.contextmanager
def unfinished(key: str, *, fresh: bool = False) -> Iterator[Path]:
    """Give a folder for what a killed run can go on from; it is found again under the same key, and removed at the end.

    A second process with the same key at the same time gets a folder of its own. `fresh` empties what is found.
    """
    place = home() / "unfinished"
    place.mkdir(parents=True, exist_ok=True)
    free, own = place / key, place / f"{key}.{owners.mine()}"
    sweep_all(place)
    if own.exists() or not _claimed(free, own):
        with tempfile.TemporaryDirectory(prefix=f".{key}-", suffix=f".tmp-{owners.mine()}", dir=place) as another:
            yield Path(another)
        return
    if fresh:
        shutil.rmtree(own)
        own.mkdir()
    try:
        with beating(BEAT, partial(os.utime, own), OSError):
            yield own
    except BaseException:
        with contextlib.suppress(OSError):
            os.rename(own, free)
        raise
    shutil.rmtree(own, ignore_errors=True)


def wait(key: str, say: Callable[[str], None]) -> None:
    """Wait as long as another live process has the folder of a key, and say for whom.

    Of this host it is known who lives. One of another host lives as long as it touches its folder; then its folder is
    taken from it. Should it wake up after all, it fails for want of it, and harms nothing.
    """
    free, told = home() / "unfinished" / key, False
    touched: dict[str, tuple[int, float]] = {}
    while owner := next((each for each in _holders(free) if _lives(free, each, touched)), None):
        if not told:
            say(f"{owners.shown(owner)} is at the very same work; waiting for what it makes")
        told = True
        time.sleep(PAUSE)
    for owner in filter(owners.elsewhere, _holders(free)):
        say(f"{owners.shown(owner)} is silent; going on from what it left")
        with contextlib.suppress(OSError):
            os.rename(free.with_name(f"{key}.{owner}"), free)


def forget(owner: str, target: Path | Remote) -> None:
    """Take from a process that is known to be dead, on whatever host, what it was writing and what it had unfinished.

    Of another host nobody here can know that, so its work would bar the way to a result, or be waited for. Should it
    live after all, it fails for want of its folders, and harms nothing.

    Args:
        owner: The process, as `owners` names it.
        target: The result that it was to make.
    """
    if not owners.elsewhere(owner) and owners.alive(owner):
        return None
    for held in (home() / "unfinished").glob(f"*.{owner}"):
        with contextlib.suppress(OSError):
            os.rename(held, held.with_name(held.name.removesuffix(f".{owner}")))
    if isinstance(target, Remote):
        return uploading.forget(owner, target)
    return restore(Path(os.path.abspath(target)), owner)


def left() -> list[Left]:
    """List what killed runs can go on from."""
    found = []
    for folder in (home() / "unfinished").glob("[0-9a-f]*"):
        owner = folder.name.partition(".")[2]
        if owner and owners.alive(owner):
            continue
        with contextlib.suppress(OSError):
            stats = [file.stat() for file in folder.rglob("*") if file.is_file()]
            used = max((stat.st_mtime for stat in stats), default=folder.stat().st_mtime)
            found.append(Left(folder, sum(stat.st_size for stat in stats), used))
    return found


def _holders(free: Path) -> list[str]:
    """Name the other processes that have a folder."""
    found = (path.name.removeprefix(f"{free.name}.") for path in sorted(free.parent.glob(f"{free.name}.*")))
    return [owner for owner in found if owner != owners.mine()]


def _lives(free: Path, owner: str, touched: dict[str, tuple[int, float]]) -> bool:
    """Tell whether a process lives; `touched` remembers when each folder was seen to change, by our own clock."""
    if not owners.elsewhere(owner):
        return owners.alive(owner)
    try:
        time_there = free.with_name(f"{free.name}.{owner}").stat().st_mtime_ns
    except OSError:
        return False
    if touched.get(owner, (None,))[0] != time_there:
        touched[owner] = time_there, time.monotonic()
    return time.monotonic() - touched[owner][1] < PATIENCE


def _claimed(free: Path, own: Path) -> bool:
    """Make a folder ours: a new one, or what nobody has or a dead process had; False if a live one has it."""
    held = sorted(free.parent.glob(f"{free.name}.*"))
    if any(owners.alive(path.name.removeprefix(f"{free.name}.")) for path in held):
        return False
    if not held:
        free.mkdir(exist_ok=True)
    for found in (free, *held):
        try:
            os.rename(found, own)
        except OSError:
            continue
        return True
    return False
