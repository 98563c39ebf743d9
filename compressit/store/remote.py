"""A place that a URL names, such as s3://bucket/run: what is done there, through fsspec, and what its errors mean."""

from __future__ import annotations

import contextlib
import errno
import os
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from compressit.errors import CompressitError, RecipeError, RetryableError, StepError
from compressit.spec import SIGNED_IN

LONGEST = 1000
"""Bytes of a path; object stores take 1,024."""
WRONG = re.compile(r"credential|auth|denied|forbidden|profile|config|validation|invalid", re.IGNORECASE)
"""What the errors of stores are called that would be met again; of those that say so by their name alone."""
FOR_GOOD = (
    PermissionError, FileNotFoundError, FileExistsError, IsADirectoryError, NotADirectoryError, NotImplementedError,
    ImportError, TypeError, ValueError,
)  # fmt: skip
NUMBERS = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EROFS, errno.EACCES, errno.EPERM, errno.EINVAL}
PASSING = {408, 425, 429}
"""Of a server's answers that blame the client, those that may be others the next time."""


@dataclass(frozen=True)
class Remote:
    """A folder behind a URL.

    Attributes:
        url: As people may read it, without a password.
        system: The file system, as fsspec opens it.
        path: Of the folder, in it.
    """

    url: str
    system: Any
    path: str

    def __str__(self) -> str:
        return self.url

    def child(self, name: str) -> Remote:
        """Give a folder in it."""
        return Remote(f"{self.url}/{name}", self.system, self._of(name))

    def files(self) -> dict[str, int | None]:
        """List the files below it: their sizes, None where the store gives none, by their paths."""
        head = f"{self.path}/"
        with self._explained():
            self.system.invalidate_cache()
            try:
                found = self.system.find(self.path, detail=True)
            except FileNotFoundError:
                return {}
        sizes = {name: info.get("size") for name, info in found.items() if info.get("type") != "directory"}
        return {name.removeprefix(head): size for name, size in sizes.items() if name.startswith(head)}

    def has(self, name: str) -> bool:
        """Tell whether it holds a file."""
        with self._explained():
            self.system.invalidate_cache()
            try:
                return bool(self.system.info(self._of(name))["type"] == "file")
            except FileNotFoundError:
                return False

    def changed(self, name: str) -> float | None:
        """Say when a file was written, in seconds by the store's own clock; None where it doesn't tell."""
        try:
            with self._explained():
                self.system.invalidate_cache()
                return float(self.system.modified(self._of(name)).timestamp())
        except CompressitError as error:
            if isinstance(error.__cause__, NotImplementedError | FileNotFoundError):
                return None
            raise

    def read(self, name: str) -> bytes:
        """Read a small file."""
        with self._explained():
            return bytes(self.system.cat_file(self._of(name)))

    def write(self, name: str, content: bytes) -> None:
        """Write a small file."""
        with self._explained():
            self.system.pipe_file(self._of(name), content)

    def put(self, file: Path, name: str) -> None:
        """Upload a file."""
        with self._explained():
            self.system.put_file(str(file), self._of(name))

    def get(self, name: str, file: Path) -> None:
        """Download a file."""
        file.parent.mkdir(parents=True, exist_ok=True)
        with self._explained():
            self.system.get_file(self._of(name), str(file))

    def remove(self, name: str) -> None:
        """Remove a file; nothing happens where there is none."""
        with self._explained(), contextlib.suppress(FileNotFoundError):
            self.system.rm_file(self._of(name))

    def _of(self, name: str) -> str:
        return f"{self.path}/{name}"

    @contextlib.contextmanager
    def _explained(self) -> Iterator[None]:
        """Turn whatever a store raises into an error that says whether to try again."""
        try:
            yield
        except CompressitError:
            raise
        except Exception as error:  # every store has kinds of its own
            said = SIGNED_IN.sub(r"\1***@", " ".join(str(error).split())[:300])
            text = f"{self.url} can't be used: {said or 'no word why'} ({type(error).__name__})"
            if _for_good(error):
                hint = "see that the place is there, and that the store's own settings let you read and write it"
                raise StepError(text, hint=hint) from error
            hint = "run the same command again: it goes on from what is there"
            raise RetryableError(text, hint=hint) from error


def place(text: str | Path) -> Path | Remote:
    """Take what a user names as output for a folder of this machine, or for one behind a URL.

    Raises:
        RecipeError: nothing is known of such a URL.
        StepError: what its protocol needs is not installed.
    """
    url = str(text)
    if isinstance(text, Path) or "://" not in url:
        return Path(text)
    if "::" in url or not re.fullmatch(r"[A-Za-z][\w+.-]*://.+", url):
        raise RecipeError(f"{_shown(url)} is not a URL of a folder", hint="name one as s3://BUCKET/FOLDER")
    if not url.isprintable() or len(os.fsencode(url)) > LONGEST or {"..", "."} & set(url.split("/")):
        raise RecipeError(f"{_shown(url)[:80]!r}... is not a usable URL of a folder")
    return _opened(url.rstrip("/"))


def address(output: Path | Remote) -> str:
    """Write a place so that another process takes it for the same."""
    return os.path.abspath(output) if isinstance(output, Path) else output.url


def child(output: Path | Remote, name: str) -> Path | Remote:
    """Give a folder in another."""
    return output / name if isinstance(output, Path) else output.child(name)


def _opened(url: str) -> Remote:
    from fsspec.core import url_to_fs
    from fsspec.registry import known_implementations

    protocol = url.partition("://")[0].lower()
    known = known_implementations.get(protocol, {})
    try:
        # Of what is like a disk, only this one makes no folders for files unless it is told to.
        system, path = url_to_fs(url, **({"auto_mkdir": True} if protocol in ("file", "local") else {}))
    except ImportError as error:
        package = known.get("class", "").partition(".")[0]
        hint = f"pip install {package}" if package not in ("", "fsspec") else known.get("err") or str(error)
        raise StepError(f"{protocol}:// needs a package that is not installed: {error}", hint=hint) from error
    except ValueError as error:
        if "not known" not in str(error):
            raise RecipeError(f"{_shown(url)} can't be used: {_shown(str(error))}") from error
        hint = "name one as s3://, gs://, az:// or file://; what fsspec knows is taken"
        raise RecipeError(f"{protocol}:// is not known", hint=hint) from error
    if not path.strip("/"):
        raise RecipeError(f"{_shown(url)} names no folder", hint="name one as s3://BUCKET/FOLDER")
    return Remote(_shown(url), system, path.rstrip("/"))


def _shown(url: str) -> str:
    return SIGNED_IN.sub(r"\1***@", url)


def _for_good(error: Exception) -> bool:
    """Tell whether the same would be met again."""
    status = getattr(error, "status_code", getattr(error, "status", getattr(error, "code", None)))
    if isinstance(status, int) and 400 <= status < 600:
        return status < 500 and status not in PASSING
    if isinstance(error, FOR_GOOD) or (isinstance(error, OSError) and error.errno in NUMBERS):
        return True
    return any(WRONG.search(kind.__name__) for kind in type(error).__mro__)
