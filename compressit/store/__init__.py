"""Run folders on disk: complete and checked, or not there at all.

Everything is written into a sibling `.NAME.tmp-HOST-PID-START/`; then modes, fsync, SHA-256, the manifest last, and one
rename. A top-level name that starts with a dot is scratch and is not published. Whatever a killed run leaves behind
can't be taken for a result, and the next run on the same host removes it.
"""

from __future__ import annotations

import contextlib
import errno
import hashlib
import json
import os
import shutil
import socket
import tempfile
from collections.abc import Collection, Iterator, Mapping
from pathlib import Path
from typing import Any, TextIO

from compressit.errors import IntegrityError, RecipeError, RetryableError, StepError, UnsafeError

MANIFEST = "manifest.json"
FORMAT = 1


def cache() -> Path:
    """Folder for what can be made again: demo models and the notes of unfinished steps."""
    named = os.environ.get("COMPRESSIT_CACHE")
    if named:
        return Path(named).expanduser()
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "compressit"


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
        RetryableError: another run published there in the meantime.
        StepError: the disk is full or can't be written.
    """
    target = Path(os.path.abspath(target))
    check_target(target, overwrite=overwrite)
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        sweep(target)
        folder = target.parent / f".{target.name}.tmp-{_owner()}"
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir()
    except OSError as error:
        raise StepError(f"can't write beside {target}: {error.strerror or error}") from error
    try:
        yield folder
        commit(folder, target, about or {}, overwrite=overwrite)
    except OSError as error:
        raise _explain(error, target) from error
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
    file = target.parent / f".{target.name}.tmp-{_owner()}"
    try:
        with file.open("w", encoding="utf-8") as stream:
            yield stream
            stream.flush()
            os.fsync(stream.fileno())
        if not overwrite and target.exists():
            raise RetryableError(f"another process wrote {target} in the meantime")
        os.replace(file, target)
        _sync(target.parent)
    except OSError as error:
        raise _explain(error, target) from error
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


def check_target(target: Path, *, overwrite: bool) -> None:
    """Refuse a target that something else stands at."""
    if any(len(os.fsencode(part)) > 200 for part in target.parts) or not str(target).isprintable():
        raise RecipeError(f"{str(target)[:80]!r}... is not a usable folder name")
    if target.is_symlink():
        raise UnsafeError(f"{target} is a symbolic link", hint="name the folder itself")
    if target.exists() and not target.is_dir():
        raise RecipeError(f"{target} is a file", hint="choose another folder with -o")
    if not target.is_dir() or not any(target.iterdir()):
        return
    if not overwrite:
        raise RecipeError(f"{target} exists already", hint="choose another folder with -o, or pass --overwrite")
    _refuse_foreign(target)


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


def commit(folder: Path, target: Path, about: dict[str, Any], *, overwrite: bool) -> None:
    """Make a staged folder durable and give it its final name."""
    for hidden in folder.glob(".*"):
        shutil.rmtree(hidden) if hidden.is_dir() else hidden.unlink()
    mask = os.umask(0)
    os.umask(mask)
    entries = {}
    for file in _files(folder):
        file.chmod(0o666 & ~mask)
        entries[file.relative_to(folder).as_posix()] = {"size": file.stat().st_size, "sha256": _digest(file)}
        _sync(file)
    for inner in [path for path in folder.rglob("*") if path.is_dir()]:
        inner.chmod(0o777 & ~mask)
        _sync(inner)
    manifest = folder / MANIFEST
    manifest.write_text(json.dumps({"format": FORMAT, **about, "files": entries}, indent=1) + "\n", encoding="utf-8")
    _sync(manifest)
    folder.chmod(0o777 & ~mask)
    _sync(folder)
    old = target.parent / f".{target.name}.old-{_owner()}"
    if overwrite and target.exists():
        os.rename(target, old)
    try:
        os.rename(folder, target)
    except OSError as error:
        if old.exists():
            os.rename(old, target)
        if target.exists():
            raise RetryableError(f"another run published {target} in the meantime") from error
        raise
    _sync(target.parent)
    shutil.rmtree(old, ignore_errors=True)


def manifest(folder: Path) -> dict[str, Any]:
    """Read a result's manifest."""
    file = folder / MANIFEST
    if not file.is_file():
        raise IntegrityError(f"{folder} holds no {MANIFEST}: not a finished result of compressit")
    try:
        found = json.loads(file.read_text(encoding="utf-8"))
        version, files = found["format"], found["files"]
    except (ValueError, KeyError, TypeError) as error:
        raise IntegrityError(f"{file} can't be read: {error}") from error
    entries = files.values() if isinstance(files, dict) else [None]
    if not all(isinstance(entry, dict) and {"size", "sha256"} <= entry.keys() for entry in entries):
        raise IntegrityError(f"{file} can't be read: an entry doesn't say size and SHA-256")
    if version != FORMAT:
        raise IntegrityError(f"{file} has format {version}; this version reads format {FORMAT}")
    return dict(found)


def amend(folder: Path, files: Mapping[str, str]) -> None:
    """Put texts into a result, new or in place of old ones, and then its manifest, each whole or not at all.

    Killed in between, it leaves a manifest that doesn't know the new texts, as `verify` says; the same call mends it.

    Args:
        folder: A finished result.
        files: Texts by their path below the folder.

    Raises:
        UnsafeError: a path leads out of the folder.
        StepError: the disk is full or can't be written.
    """
    said = manifest(folder)
    mask = os.umask(0)
    os.umask(mask)
    try:
        for name, text in files.items():
            file = folder / name
            if not file.parent.resolve().is_relative_to(folder.resolve()) or name == MANIFEST:
                raise UnsafeError(f"{file} lies outside the result's own files; it won't be written")
            said["files"][name] = _put(file, text, mask)
        _put(folder / MANIFEST, json.dumps(said, indent=1) + "\n", mask)
    except OSError as error:
        raise _explain(error, folder) from error


def _put(file: Path, text: str, mask: int) -> dict[str, Any]:
    """Write a text durably under another name, then give it its own; say size and SHA-256."""
    file.parent.mkdir(exist_ok=True)
    half = file.with_name(f".{file.name}.half")
    half.unlink(missing_ok=True)
    half.write_text(text, encoding="utf-8", newline="\n")
    half.chmod(0o666 & ~mask)
    entry = {"size": half.stat().st_size, "sha256": _digest(half)}
    _sync(half)
    os.replace(half, file)
    _sync(file.parent)
    return entry


def verify(folder: Path, names: Collection[str] | None = None) -> list[str]:
    """Compare a result with its manifest; list what differs, nothing if all is well.

    Args:
        folder: A finished result.
        names: The files to look at (default: all of them).
    """
    files = manifest(folder)["files"]
    if names is not None:
        unknown = [f"{name}: not in the manifest" for name in sorted(names) if name not in files]
        return unknown + _differences(folder, {name: entry for name, entry in files.items() if name in names})
    wrong = _differences(folder, files)
    known = {*files, MANIFEST}
    found = [file.relative_to(folder).as_posix() for file in _files(folder)]
    wrong += [f"{link.relative_to(folder)}: a symbolic link" for link in folder.rglob("*") if link.is_symlink()]
    return wrong + [f"{name}: not in the manifest" for name in found if name not in known]


def _differences(folder: Path, files: Mapping[str, Mapping[str, Any]]) -> list[str]:
    wrong = []
    for name, entry in files.items():
        file = folder / name
        if Path(name).is_absolute() or ".." in Path(name).parts or file.is_symlink():
            wrong.append(f"{name}: lies outside the folder")
        elif not file.is_file():
            wrong.append(f"{name}: missing")
        elif file.stat().st_size != entry["size"]:
            wrong.append(f"{name}: {file.stat().st_size:,} bytes, {entry['size']:,} expected")
        elif _digest(file) != entry["sha256"]:
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
    for file in _files(folder):
        whole.update(f"{file.relative_to(folder).as_posix()}\0{_digest(file)}\n".encode())
    return whole.hexdigest()


@contextlib.contextmanager
def unfinished(key: str) -> Iterator[Path]:
    """Give a folder for what a killed run can go on from; it is found again under the same key, and removed at the end.

    A second process with the same key at the same time gets a folder of its own.
    """
    folder = cache() / "unfinished" / key
    folder.mkdir(parents=True, exist_ok=True)
    lock = folder / "owner"
    if lock.is_file() and _alive(lock.read_text(encoding="utf-8")) and lock.read_text(encoding="utf-8") != _owner():
        with tempfile.TemporaryDirectory(prefix="compressit-") as own:
            yield Path(own)
        return
    lock.write_text(_owner(), encoding="utf-8")
    try:
        yield folder
    except BaseException:
        lock.unlink(missing_ok=True)
        raise
    shutil.rmtree(folder, ignore_errors=True)


def sweep(target: Path) -> None:
    """Remove what dead runs on this host left beside a target; put an old result back that lost its name."""
    for left in target.parent.glob(f".{target.name}.*-*"):
        kind, _, owner = left.name.removeprefix(f".{target.name}.").partition("-")
        if kind not in ("tmp", "old") or _alive(owner):
            continue
        if kind == "old" and not target.exists():
            os.rename(left, target)
        elif left.is_dir():
            shutil.rmtree(left, ignore_errors=True)
        else:
            left.unlink(missing_ok=True)


def _owner() -> str:
    return f"{_host()}-{os.getpid()}-{_started(os.getpid())}"


def _alive(owner: str) -> bool:
    """Tell whether the process that owns a folder may still run; one of another host always may."""
    host, _, rest = owner.rpartition("-")[0].rpartition("-")
    started = owner.rpartition("-")[2]
    if host != _host() or not rest.isdigit():
        return True
    return _started(int(rest)) == started


def _host() -> str:
    return socket.gethostname().replace("/", "_") or "localhost"


def _started(pid: int) -> str:
    """Say when a process began, so that a reused process id is not mistaken for it; "0" where that can't be known."""
    stat = Path(f"/proc/{pid}/stat")
    if not stat.parent.parent.is_dir() or not Path("/proc/self/stat").exists():
        return "0" if _runs(pid) else "gone"
    try:
        return stat.read_text(encoding="utf-8").rpartition(")")[2].split()[19]
    except OSError:
        return "gone"


def _runs(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True


def _files(folder: Path) -> list[Path]:
    return sorted(path for path in folder.rglob("*") if path.is_file() and not path.name.startswith("."))


def _digest(file: Path) -> str:
    with file.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def _sync(path: Path) -> None:
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def _explain(error: OSError, target: Path) -> StepError:
    if error.errno not in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EROFS, errno.EACCES, errno.EPERM, errno.EIO):
        return StepError(f"the run to {target} failed: {error}")
    free = shutil.disk_usage(target.parent).free
    return StepError(
        f"writing {error.filename or target} failed: {error.strerror or error} ({free:,} bytes free)",
        hint="earlier results are untouched; free some space, or choose another folder with -o",
    )
