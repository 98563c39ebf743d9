"""What a run keeps of what its original and its artifacts said of each example: arrays, a file for each."""

from __future__ import annotations

import zipfile
import zlib
from collections.abc import Mapping
from pathlib import Path

import numpy as np

from compressit import tasks
from compressit.errors import IntegrityError
from compressit.outputs import Output

EXAMPLES, ORIGINAL = "examples", "original"


def write(folder: Path, said: Mapping[str, Output]) -> None:
    """Keep outputs by name in a run's folder."""
    (folder / EXAMPLES).mkdir()
    for name, output in said.items():
        np.savez(_file(folder, name), allow_pickle=False, **output.arrays())


def there(folder: Path) -> bool:
    """Tell whether a run kept any: one without data has none."""
    return _file(folder, ORIGINAL).is_file()


def said(folder: Path, task: str, name: str) -> Output:
    """Read what one of them said; no examples where the run kept none.

    Raises:
        IntegrityError: the file can't be read.
    """
    kind: type[Output] = tasks.load(task).OUTPUT
    if not there(folder):
        return kind.empty()
    file = _file(folder, name)
    if not file.is_file():
        raise IntegrityError(f"{folder} holds no {EXAMPLES}/{file.name}: what {name} said of the examples is lost")
    try:
        with file.open("rb") as stream, np.load(stream, allow_pickle=False) as arrays:
            found = kind(**dict(arrays))
        wrong = found.unsound()
    except (OSError, ValueError, TypeError, EOFError, zipfile.BadZipFile, zlib.error) as error:
        raise IntegrityError(f"{file} can't be read: {error}") from error
    if wrong:
        raise IntegrityError(f"{file} is not as compressit writes it: {wrong}")
    return found


def _file(folder: Path, name: str) -> Path:
    return folder / EXAMPLES / f"{name}.npz"
