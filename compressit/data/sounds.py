"""Columns of sounds, however they come, as the places or the bytes of files: nothing is decoded before it is used.

`datasets` decodes sounds with torchcodec, which wants FFmpeg's libraries on the machine. Here they are read by
libsndfile, which comes along with its Python package.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from compressit.data.spec import DatasetSpec
from compressit.errors import DataError
from compressit.spec import home
from compressit.tasks import _waveforms

if TYPE_CHECKING:
    from datasets import Dataset, DatasetDict

    from compressit.data.places import Where

DECODER = "torchcodec"
RATE = "sampling_rate"


def laid_out(rows: Dataset, spec: DatasetSpec, base: Path, where: Where) -> Dataset:
    """Bring the column `audio` into one form; paths start from the data set's folder.

    Raises:
        DataError: a file isn't there, or the column holds something else.
        MissingExtra: what reads sounds isn't installed.
    """
    import datasets

    _waveforms.ready()
    if isinstance(rows.features["audio"], datasets.Audio):
        rows = rows.cast_column("audio", datasets.Audio(decode=False))
    folder = base / home(spec.path)
    return _held(rows, folder if folder.is_dir() else folder.parent, where)


def plain(rows: Dataset) -> Dataset:
    """Bring the column `audio` into one form, where its paths are whole.

    Raises:
        MissingExtra: what reads sounds isn't installed.
    """
    _waveforms.ready()
    return _held(rows, Path(), lambda index: f"row {index + 1}")


def among(files: Iterable[Path]) -> bool:
    """Tell whether some of a folder's files are sounds, by their names."""
    from datasets.packaged_modules.audiofolder.audiofolder import AudioFolder

    return any(file.suffix.lower() in AudioFolder.EXTENSIONS for file in files)


def folder(path: str, spec: DatasetSpec, cache: str | None = None) -> DatasetDict | None:
    """Open a folder of sounds, here or on the hub, as `datasets` would, but keep the files' paths; None for others.

    Args:
        path: Of the folder, or its hub id.
        spec: The recipe's data set.
        cache: Where to keep the list of its files (default: where the library does).
    """
    import datasets
    from datasets.packaged_modules.audiofolder.audiofolder import AudioFolder

    class Place(datasets.Value):  # type: ignore[misc]
        """The path of a file."""

    class Places(AudioFolder):  # type: ignore[misc]
        BASE_FEATURE = Place

        def _base_feature(self) -> Any:
            return Place("string")

    found = datasets.load_dataset_builder(path, name=spec.name, revision=spec.revision, cache_dir=cache)
    if not isinstance(found, AudioFolder):
        return None
    own = {key: getattr(found.config, key) for key in ("drop_labels", "drop_metadata", "metadata_filenames")}
    made = Places(
        dataset_name=f"places_of_{found.dataset_name}", data_files=found.config.data_files, cache_dir=cache, **own
    )
    made.download_and_prepare()
    return made.as_dataset()


def _held(rows: Dataset, folder: Path, where: Where) -> Dataset:
    import datasets

    def one(row: dict[str, Any], index: int) -> dict[str, Any]:
        return {"audio": _one(row["audio"], folder, lambda: where(index))}

    form = {"bytes": datasets.Value("binary"), "path": datasets.Value("string")}
    others = {name: feature for name, feature in rows.features.items() if name != "audio"}
    features = datasets.Features({"audio": form, **others})
    return rows.map(one, with_indices=True, features=features, desc=None)


def _one(sound: Any, folder: Path, where: Callable[[], str]) -> dict[str, Any]:
    """Bring one sound into the form in which all are held."""
    given = {"path": sound} if isinstance(sound, str) else sound
    if isinstance(given, dict) and given.get("bytes") is not None:
        return {"bytes": given["bytes"], "path": given.get("path")}
    if isinstance(given, dict) and given.get("array") is not None:
        rate = given.get(RATE)
        if not isinstance(rate, int) or rate < 1:
            raise DataError(f"{where()}: audio has samples, and no {RATE} that says how many make a second")
        return {"bytes": _waveforms.written(given["array"], rate), "path": None}
    if not isinstance(given, dict) or not isinstance(given.get("path"), str):
        shown = "empty" if sound is None or sound == {} else f"{str(sound)[:40]}, no sound"
        raise DataError(
            f"{where()}: audio is {shown}",
            hint=f"give the path of a file, or {{array: [...], {RATE}: 16000}}",
        )
    file = folder / given["path"]
    if not file.is_file():
        raise DataError(f"{where()}: there is no sound file {file}")
    return {"bytes": None, "path": str(file)}
