"""Give a result its name when it is whole, and not before."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TextIO

from compressit.errors import IntegrityError, RecipeError, RetryableError, StepError, UnsafeError
from compressit.store import files, owners, uploading
from compressit.store.manifests import FORMAT, MANIFEST, manifest
from compressit.store.places import home
from compressit.store.remote import Remote


@dataclass(frozen=True)
class Draft:
    """A result that is being made.

    Attributes:
        folder: Where it is put together; it goes with the block.
        publish: Gives it its name; takes facts for the manifest, such as the recipe's digest.
    """

    folder: Path
    publish: Callable[[dict[str, Any]], None]


@contextlib.contextmanager
def drafted(target: Path | Remote, *, overwrite: bool = False, say: Callable[[str], None]) -> Iterator[Draft]:
    """Give a folder to write a result into; nothing of it is seen at `target` unless it is published in the block.

    Args:
        target: Where the result goes, a folder or a place behind a URL.
        overwrite: Replace an earlier result that stands there.
        say: Told what takes a while.

    Raises:
        CompressitError: as `staged` does, and where a URL's place can't be used.
    """
    if isinstance(target, Path):
        target = Path(os.path.abspath(target))
        check_target(target, overwrite=overwrite)
        with held(target) as folder:
            yield Draft(folder, lambda about: commit(folder, target, about, overwrite=overwrite))
        return
    check_target(target, overwrite=overwrite)
    here = home() / "unfinished"
    with uploading.held(target) as hold:
        try:
            here.mkdir(parents=True, exist_ok=True)
            sweep_all(here)
            with tempfile.TemporaryDirectory(prefix=".upload-", suffix=f".tmp-{owners.mine()}", dir=here) as place:

                def publish(about: dict[str, Any]) -> None:
                    seal(Path(place), about)
                    uploading.upload(Path(place), hold, overwrite=overwrite, say=say)

                yield Draft(Path(place), publish)
        except OSError as error:
            raise files.explained(error, here) from error


@contextlib.contextmanager
def staged(target: Path, *, overwrite: bool = False, about: dict[str, Any] | None = None) -> Iterator[Path]:
    """Give a folder to write a result into; publish it at `target` if the block ends well.

    Args:
        target: Where the result goes.
        overwrite: Replace an earlier result that stands there.
        about: Facts for the manifest, such as the recipe's digest; may be filled inside the block.

    Raises:
        RecipeError: something stands at the target.
        UnsafeError: what stands there is not a result of compressit, so it is never replaced.
        RetryableError: another run is writing there, or published there in the meantime.
        StepError: the disk is full or can't be written.
    """
    with drafted(target, overwrite=overwrite, say=lambda text: None) as draft:
        yield draft.folder
        draft.publish(about or {})


@contextlib.contextmanager
def held(target: Path) -> Iterator[Path]:
    """Hold a target as long as the block lasts, and give a folder beside it that goes at the end.

    Raises:
        RetryableError: another run holds it.
        StepError: the disk is full or can't be written.
    """
    target = Path(os.path.abspath(target))
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        sweep(target)
        _yield(target)
        folder = target.parent / f".{target.name}.tmp-{owners.mine()}"
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir()
    except OSError as error:
        raise StepError(f"can't write beside {target}: {error.strerror or error}") from error
    try:
        # Of two that began at the same moment, and saw nobody, the first by name goes on.
        _yield(target, before=owners.mine())
        yield folder
    except OSError as error:
        raise files.explained(error, target) from error
    finally:
        shutil.rmtree(folder, ignore_errors=True)


@contextlib.contextmanager
def written(target: Path, *, overwrite: bool = False) -> Iterator[TextIO]:
    """Give a text file to write into, which appears at `target` whole if the block ends well, and not at all if not.

    Raises:
        RecipeError: something stands at the target, or its folder isn't there.
        StepError: the disk is full or can't be written.
    """
    check_file(target, overwrite=overwrite)
    sweep(target)
    file = target.parent / f".{target.name}.tmp-{owners.mine()}"
    try:
        with file.open("w", encoding="utf-8") as stream:
            yield stream
            stream.flush()
            os.fsync(stream.fileno())
        if not overwrite and target.exists():
            raise RetryableError(f"another process wrote {target} in the meantime")
        os.replace(file, target)
        files.sync(target.parent)
    except OSError as error:
        raise files.explained(error, target) from error
    finally:
        file.unlink(missing_ok=True)


def check_file(target: Path, *, overwrite: bool) -> None:
    """Refuse to write a file where another stands, or where there is no folder."""
    if target.is_dir():
        raise RecipeError(f"{target} is a folder", hint="name a file")
    if not target.parent.is_dir():
        raise RecipeError(f"there is no folder {target.parent}")
    if target.is_symlink():
        raise UnsafeError(f"{target} is a symbolic link", hint="name the file itself")
    if target.exists() and not overwrite:
        raise RecipeError(f"{target} exists already", hint="name another file, or pass --overwrite")


def check_target(target: Path | Remote, *, overwrite: bool) -> None:
    """Refuse a target that something else stands at."""
    if isinstance(target, Remote):
        return uploading.check(target, overwrite=overwrite)
    if any(len(os.fsencode(part)) > 200 for part in target.parts) or not str(target).isprintable():
        raise RecipeError(f"{str(target)[:80]!r}... is not a usable folder name")
    if target.is_symlink():
        raise UnsafeError(f"{target} is a symbolic link", hint="name the folder itself")
    if target.exists() and not target.is_dir():
        raise RecipeError(f"{target} is a file", hint="choose another folder with -o")
    if not target.is_dir() or not any(target.iterdir()):
        return None
    if not overwrite:
        raise RecipeError(f"{target} exists already", hint="choose another folder with -o, or pass --overwrite")
    return _refuse_foreign(target)


def _refuse_foreign(target: Path) -> None:
    """Refuse to replace a folder that is not a result, or in which somebody keeps files of their own."""
    try:
        known = {*manifest(target)["files"], MANIFEST}
    except IntegrityError as error:
        raise UnsafeError(f"{target} is not a result of compressit and won't be replaced: {error.message}") from error
    names = [
        path.relative_to(target).as_posix() for path in target.rglob("*") if not path.is_dir() or path.is_symlink()
    ]
    foreign = [name for name in names if name not in known]
    if foreign:
        raise UnsafeError(
            f"{target} holds {foreign[0]}, which compressit did not write; it won't be replaced",
            hint="move your own files away first, or choose another folder with -o",
        )


def seal(folder: Path, about: dict[str, Any]) -> None:
    """Make a staged folder durable, and write its manifest last."""
    for hidden in folder.glob(".*"):
        shutil.rmtree(hidden) if hidden.is_dir() else hidden.unlink()
    mask = os.umask(0)
    os.umask(mask)
    entries = {}
    for file in files.inside(folder):
        file.chmod(0o666 & ~mask)
        entries[file.relative_to(folder).as_posix()] = {"size": file.stat().st_size, "sha256": files.digest(file)}
        files.sync(file)
    for inner in [path for path in folder.rglob("*") if path.is_dir()]:
        inner.chmod(0o777 & ~mask)
        files.sync(inner)
    manifest = folder / MANIFEST
    manifest.write_text(json.dumps({"format": FORMAT, **about, "files": entries}, indent=1) + "\n", encoding="utf-8")
    files.sync(manifest)
    folder.chmod(0o777 & ~mask)
    files.sync(folder)


def commit(folder: Path, target: Path, about: dict[str, Any], *, overwrite: bool) -> None:
    """Make a staged folder durable and give it its final name."""
    seal(folder, about)
    old = target.parent / f".{target.name}.old-{owners.mine()}"
    if overwrite and target.exists():
        os.rename(target, old)
    try:
        os.rename(folder, target)
    except OSError as error:
        taken = target.exists()
        if old.exists() and not taken:
            os.rename(old, target)
        if taken:
            raise RetryableError(f"another run published {target} in the meantime") from error
        raise
    files.sync(target.parent)
    shutil.rmtree(old, ignore_errors=True)


def _yield(target: Path, before: str | None = None) -> None:
    """Leave a target to another live run that writes there, so that no work is done twice."""
    head = f".{target.name}.tmp-"
    for other in (path.name.removeprefix(head) for path in target.parent.glob(f"{head}*")):
        if other == owners.mine() or not owners.alive(other) or (before is not None and other > before):
            continue
        hint = "wait until it is done, or choose another folder with -o"
        if owners.elsewhere(other):
            hint += f"; if that process is dead, remove {target.parent / (head + other)}"
        raise RetryableError(f"{owners.shown(other)} is writing {target}", hint=hint)


def sweep(target: Path) -> None:
    """Remove what dead runs on this host left beside a target; put an old result back that lost its name."""
    for left in target.parent.glob(f".{target.name}.*-*"):
        kind, _, owner = left.name.removeprefix(f".{target.name}.").partition("-")
        if kind in ("tmp", "old") and not owners.alive(owner):
            restore(target, owner)


def restore(target: Path, owner: str) -> None:
    """Remove what a dead run left beside a target; put the old result back if it lost its name to none."""
    old = target.parent / f".{target.name}.old-{owner}"
    if old.exists() and not target.exists():
        os.rename(old, target)
    for left in (old, target.parent / f".{target.name}.tmp-{owner}"):
        if left.is_dir():
            shutil.rmtree(left, ignore_errors=True)
        else:
            left.unlink(missing_ok=True)


def sweep_all(place: Path) -> None:
    """Remove what dead runs on this host left half written, or half removed, beside anything in a folder."""
    for left in place.glob(".*.tmp-*"):
        if not owners.alive(left.name.rpartition(".tmp-")[2]):
            shutil.rmtree(left, ignore_errors=True)


def discard(folder: Path) -> None:
    """Remove a folder, its name first; killed in between, it leaves what `sweep_all` removes.

    Raises:
        OSError: there is none, or it can't be renamed.
    """
    hidden = folder.with_name(f".{folder.name}.tmp-{owners.mine()}")
    os.rename(folder, hidden)
    shutil.rmtree(hidden, ignore_errors=True)
