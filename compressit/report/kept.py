"""What a run keeps of what its original and its artifacts said of each example: arrays, a file for each."""

from __future__ import annotations

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
    try:
        with np.load(file, allow_pickle=False) as arrays:
            return kind(**dict(arrays))
    except (OSError, ValueError, TypeError) as error:
        raise IntegrityError(f"{file} can't be read: {error}") from error


def _file(folder: Path, name: str) -> Path:
    return folder / EXAMPLES / f"{name}.npz"
