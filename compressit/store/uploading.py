"""A result behind a URL, where no folder can be renamed: it is one as soon as its manifest is there, the last file.

Whoever means to write there first leaves a mark, `.writing-BEGUN-OWNER.N`, and renews it as long as it lives, N by N,
for some stores leave a file half written. It also says which files lie there, so that whoever comes after a killed
upload sends only the others. Of two that live the later one gives up. Should one have been taken for dead, it finds its
mark gone and gives up, too; what it was sending at that very moment does not agree with the manifest, as a check says.
"""

from __future__ import annotations

import contextlib
import json
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Set
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import Any

from compressit.errors import CompressitError, IntegrityError, RecipeError, RetryableError, UnsafeError
from compressit.store import files, manifests, owners
from compressit.store.beating import beating
from compressit.store.manifests import MANIFEST
from compressit.store.remote import Remote

MARK = ".writing-"
BEAT = 30.0
"""Seconds after which whoever writes renews its mark."""
PATIENCE = 240.0
"""Seconds of the store's clock without a new mark after which a process of another host is held to be dead."""

Entries = Mapping[str, Mapping[str, Any] | None]
"""Size and SHA-256 of files by name; None for one of ours of which no more is known."""
There = Mapping[str, int | None]
"""Sizes of the files in a place, by name."""


@dataclass
class Hold:
    """A place behind a URL, held for one run.

    Attributes:
        mark: What the files that say so are called, up to their number.
        number: Of the last of them.
        there: What lies in the place, as far as this run or those before it have put it there.
    """

    target: Remote
    mark: str
    number: int = 0
    there: Entries = field(default_factory=dict)
    lock: threading.Lock = field(default_factory=threading.Lock)

    def note(self, there: Entries) -> None:
        """Say what lies there from now on."""
        with self.lock:
            self.there = there
            self._write(left=False)

    def renew(self) -> None:
        """Say that this process lives, unless it was taken for dead."""
        with self.lock:
            if self.kept():
                self._write(left=False)

    def kept(self) -> bool:
        """Tell whether the mark is there."""
        return self.target.has(self.last)

    def confirm(self) -> None:
        """Raise RetryableError if the place is another run's by now."""
        with self.lock:
            kept = self.kept()
        if not kept or _before(self):
            raise RetryableError(f"another run writes {self.target} now, which held this one to be dead")

    def leave(self) -> None:
        """Let go of the place; what was sent stays for the next one."""
        with self.lock:
            if not self.there:
                self.target.remove(self.last)
            elif self.kept():
                self._write(left=True)

    @property
    def last(self) -> str:
        """Name of the mark as it was written last."""
        return f"{self.mark}.{self.number}"

    def _write(self, *, left: bool) -> None:
        before, said = self.last, {"left": left, "files": self.there}
        self.target.write(f"{self.mark}.{self.number + 1}", json.dumps(said).encode())
        self.number += 1
        if self.number > 1:
            self.target.remove(before)


def check(target: Remote, *, overwrite: bool) -> None:
    """Refuse a place that something else stands at.

    Raises:
        RecipeError: a result or anything else lies there, and is not to be replaced.
        UnsafeError: what lies there is not a result of compressit, so it is never replaced.
        StepError: the place can't be used.
        RetryableError: it is out of reach.
    """
    there = target.files()
    ours, whole = _ours(target, there)
    if not overwrite and (whole or _foreign(there, ours)):
        raise RecipeError(f"{target} exists already", hint="choose another place with -o, or pass --overwrite")
    _refuse_foreign(target, there, ours)


def _foreign(there: There, ours: list[str]) -> list[str]:
    return sorted({*_counted(there)} - {*ours, MANIFEST})


def _refuse_foreign(target: Remote, there: There, ours: list[str]) -> None:
    if foreign := _foreign(there, ours):
        raise UnsafeError(
            f"{target} holds {foreign[0]}, which compressit did not write; it won't be replaced",
            hint="choose another place with -o",
        )


@contextlib.contextmanager
def held(target: Remote) -> Iterator[Hold]:
    """Hold a place as long as the block lasts.

    Raises:
        RetryableError: another run holds it, or it is out of reach.
        StepError: it can't be written.
    """
    hold = Hold(target, f"{MARK}{time.time_ns():020}-{owners.mine()}")
    hold.note({})
    try:
        if other := _before(hold):
            hint = f"wait until it is done; if that process is dead, remove {target}/{other}.*"
            raise RetryableError(f"{owners.shown(_owner(other))} is writing {target}", hint=hint)
        there = target.files()
        gone = [mark for mark in _marks(there) if mark != hold.mark and not _lives(hold, mark, there)]
        if gone:
            hold.note(_told(target, there, gone))
        for name in there:
            if name.startswith(MARK) and _mark(name) in gone:
                target.remove(name)
        with beating(BEAT, hold.renew, CompressitError):
            yield hold
    finally:
        # Out of reach, it is found by its age.
        with contextlib.suppress(CompressitError):
            hold.leave()


def upload(folder: Path, hold: Hold, *, overwrite: bool, say: Callable[[str], None]) -> None:
    """Put a finished result where it is to lie, its manifest last.

    Args:
        folder: The result.
        hold: Its place.
        overwrite: Replace a result that stands there.
        say: Told how much there is to do.

    Raises:
        RetryableError: the place is another run's by now, or out of reach.
        UnsafeError: somebody has put something there that compressit did not write.
    """
    target, wanted = hold.target, manifests.manifest(folder)["files"]
    hold.confirm()
    there = target.files()
    ours, whole = _ours(target, there)
    if whole and not overwrite:
        raise RetryableError(f"another run published {target} in the meantime")
    _refuse_foreign(target, there, ours)
    if whole:
        hold.note(dict.fromkeys(ours))
    target.remove(MANIFEST)
    sent = {
        name
        for name, entry in wanted.items()
        if _same(hold.there.get(name), entry) and name in there and _whole(target, name, there[name], entry)
    }
    for name in _counted(there):
        if name not in sent and name != MANIFEST:
            target.remove(name)
    # From here on what lies there under one of these names is that file, or cut short.
    hold.note({**wanted, MANIFEST: None})
    rest = {name: entry for name, entry in wanted.items() if name not in sent}
    many = f"{len(rest)} files, {sum(entry['size'] for entry in rest.values()):,} bytes"
    say(f"upload {many}, to {target}" + (f"; {len(sent)} others are there already" if sent else ""))
    for name in rest:
        hold.confirm()
        target.put(folder / name, name)
    _compare(target, wanted)
    hold.confirm()
    target.put(folder / MANIFEST, MANIFEST)
    hold.there = {}


@contextlib.contextmanager
def fetched(target: Remote) -> Iterator[Path]:
    """Give a copy of a result, checked against its manifest, as long as the block lasts.

    Raises:
        IntegrityError: there is none, or it is not as its manifest says.
        RetryableError: it is out of reach.
    """
    said = _listed(target)
    with tempfile.TemporaryDirectory(prefix="compressit-") as place:
        folder = Path(place)
        for name in (*said, MANIFEST):
            target.get(name, folder / name)
        _refuse(target, manifests.verify(folder))
        yield folder


@contextlib.contextmanager
def glimpsed(target: Remote, names: Set[str]) -> Iterator[Path]:
    """Give a copy of a result's manifest and of those of some files that it has, as long as the block lasts.

    Raises:
        IntegrityError: there is none, one of the files is not as the manifest says, or another one's size isn't.
        RetryableError: it is out of reach.
    """
    wanted = _listed(target).keys() & names
    with tempfile.TemporaryDirectory(prefix="compressit-") as place:
        folder = Path(place)
        for name in (*wanted, MANIFEST):
            target.get(name, folder / name)
        _refuse(target, manifests.verify(folder, wanted))
        yield folder


def empty(target: Remote) -> bool:
    """Tell whether nothing lies there but, maybe, what a killed upload has left."""
    there = target.files()
    ours, whole = _ours(target, there)
    return not whole and not _foreign(there, ours)


def forget(owner: str, target: Remote) -> None:
    """Take a place from a process that is known to be dead, on whatever host."""
    for name in target.files():
        if name.startswith(MARK) and _owner(_mark(name)) == owner:
            target.write(name, json.dumps({**_said(target, name), "left": True}).encode())


def _listed(target: Remote) -> dict[str, Any]:
    """Read which files there have to be, and hold those that are there to it by name and size."""
    there = target.files()
    if MANIFEST not in there:
        raise IntegrityError(f"{target} holds no {MANIFEST}: not a finished result of compressit")
    said: dict[str, Any] = manifests.parsed(target.read(MANIFEST), f"{target}/{MANIFEST}")["files"]
    wrong = [f"{name}: lies outside the folder" for name in said if _leads_out(name)]
    wrong += [f"{name}: missing" for name in said if name not in there]
    for name, entry in said.items():
        if there.get(name) not in (None, entry["size"]):
            wrong.append(f"{name}: {there[name]:,} bytes, {entry['size']:,} expected")
    wrong += [f"{name}: not in the manifest" for name in _counted(there) if name not in said and name != MANIFEST]
    _refuse(target, wrong)
    return said


def _refuse(target: Remote, wrong: list[str]) -> None:
    if wrong:
        raise IntegrityError(f"{target} is not as it was saved:\n  " + "\n  ".join(wrong))


def _leads_out(name: str) -> bool:
    parts = PurePosixPath(name).parts
    return name.startswith("/") or ".." in parts or "\\" in name or name == MANIFEST


def _counted(there: There) -> list[str]:
    """List the files that count, those with a dot in front left out."""
    return [name for name in there if not PurePosixPath(name).name.startswith(".")]


def _marks(there: There) -> list[str]:
    """List the runs that have left marks, by the time at which they began."""
    return sorted({_mark(name) for name in there if name.startswith(MARK)})


def _mark(name: str) -> str:
    return name.rpartition(".")[0]


def _owner(mark: str) -> str:
    return mark.removeprefix(MARK).partition("-")[2]


def _before(hold: Hold) -> str | None:
    """Give the mark of another run that holds the place and was there first."""
    there = hold.target.files()
    others = [mark for mark in _marks(there) if mark < hold.mark]
    return next((mark for mark in others if _lives(hold, mark, there)), None)


def _lives(hold: Hold, mark: str, there: There) -> bool:
    """Tell whether a run may still be at it."""
    owner, names = _owner(mark), [name for name in there if _mark(name) == mark]
    if not owners.alive(owner) or any(_said(hold.target, name).get("left") for name in names):
        return False
    if not owners.elsewhere(owner):
        return True
    last = [hold.target.changed(name) for name in names]
    now = hold.target.changed(hold.last)
    return now is None or None in last or any(now - (each or 0) < PATIENCE for each in last)


def _said(target: Remote, name: str) -> dict[str, Any]:
    """Read a mark; nothing where it is gone by now, or was cut short when its writer was killed."""
    try:
        said = json.loads(target.read(name))
    except ValueError:
        return {}
    except CompressitError as error:
        if isinstance(error.__cause__, FileNotFoundError):
            return {}
        raise
    return said if isinstance(said, dict) else {}


def _told(target: Remote, there: There, marks: list[str]) -> dict[str, Any]:
    """Put together what marks say of the files there; where they don't agree, no more is known than the names."""
    found: dict[str, Any] = {}
    for name in there:
        told = _said(target, name).get("files") if name.startswith(MARK) and _mark(name) in marks else None
        for file, entry in told.items() if isinstance(told, dict) else ():
            found[file] = entry if found.get(file, entry) == entry else None
    return found


def _ours(target: Remote, there: There) -> tuple[list[str], bool]:
    """Name what lies there because compressit has put it there, and tell whether it is a result."""
    names = list(_told(target, there, _marks(there)))
    if MANIFEST not in there:
        return names, False
    try:
        return [*names, *manifests.parsed(target.read(MANIFEST), f"{target}/{MANIFEST}")["files"]], True
    except IntegrityError as error:
        if MANIFEST in names:  # cut short
            return names, False
        raise UnsafeError(f"{target} is not a result of compressit and won't be replaced: {error.message}") from error


def _same(one: Mapping[str, Any] | None, other: Mapping[str, Any]) -> bool:
    return one is not None and all(one.get(key) == other[key] for key in ("size", "sha256"))


def _compare(target: Remote, wanted: Mapping[str, Mapping[str, Any]]) -> None:
    """Raise RetryableError unless what was sent lies there, and nothing else."""
    there = target.files()
    wrong = sorted({*_counted(there)} ^ {*wanted})
    wrong += [name for name, entry in wanted.items() if name in there and not _whole(target, name, there[name], entry)]
    if wrong:
        raise RetryableError(f"{target} changed while it was written: {', '.join(wrong[:3])}")


def _whole(target: Remote, name: str, size: int | None, entry: Mapping[str, Any]) -> bool:
    """Tell whether a file was sent to its end: by its size and, where the store tells none, by reading it back."""
    if size is not None:
        return bool(size == entry["size"])
    with tempfile.TemporaryDirectory(prefix="compressit-") as place:
        target.get(name, Path(place) / "file")
        return bool(files.digest(Path(place) / "file") == entry["sha256"])
