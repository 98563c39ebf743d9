"""Sounds, as `{"bytes": ..., "path": ...}` holds them, read by libsndfile and brought to a model's rate by soxr."""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from compressit import machine
from compressit.errors import DataError

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

LIBRARIES = {"soundfile": "audio", "soxr": "audio"}
SHORTEST = 0.025
"""Seconds of which a model of speech makes its first frame; a shorter sound gives it nothing to hear."""


def ready() -> None:
    """Look whether what reads sounds is installed.

    Raises:
        MissingExtra: it is not.
    """
    machine.need(LIBRARIES)


def read(sound: Mapping[str, Any], rate: int, most: float | None = None) -> NDArray[np.float32]:
    """Read a sound as one channel, between -1 and 1: (samples,).

    Args:
        sound: The bytes of a file, or its path.
        rate: Samples a second that are wanted.
        most: Seconds at which it is cut; None for nowhere.

    Raises:
        DataError: it can't be read, or is too short.
    """
    import numpy as np
    import soundfile
    import soxr

    with _opened(sound) as file:
        own = int(file.samplerate)
        frames = -1 if most is None else round(most * own)
        try:
            channels = file.read(frames, dtype="float32", always_2d=True)
        except (soundfile.SoundFileError, RuntimeError) as error:
            raise _unreadable(sound, error) from error
    wave = channels.mean(1)
    if len(wave) < SHORTEST * own:
        raise DataError(f"{_name(sound)} has {len(wave) / own:.3f} seconds of sound, too few to hear anything in")
    made = wave if own == rate else soxr.resample(wave, own, rate)
    return np.ascontiguousarray(made, dtype=np.float32)


def seconds(sound: Mapping[str, Any]) -> float:
    """Read from a sound's header how long it is.

    Raises:
        DataError: it can't be read.
    """
    with _opened(sound) as file:
        return float(file.frames / file.samplerate)


def written(samples: Sequence[float], rate: int) -> bytes:
    """Write samples as a file of sound."""
    import numpy as np
    import soundfile

    held = io.BytesIO()
    soundfile.write(held, np.asarray(samples, dtype=np.float32), rate, format="WAV", subtype="FLOAT")
    return held.getvalue()


def content(sound: Mapping[str, Any]) -> bytes:
    """Give the bytes of a sound's file."""
    held: bytes | None = sound["bytes"]
    return Path(sound["path"]).read_bytes() if held is None else held


def _opened(sound: Mapping[str, Any]) -> Any:
    import soundfile

    try:
        return soundfile.SoundFile(sound["path"] if sound["bytes"] is None else io.BytesIO(sound["bytes"]))
    except (soundfile.SoundFileError, OSError, RuntimeError) as error:
        raise _unreadable(sound, error) from error


def _unreadable(sound: Mapping[str, Any], error: Exception) -> DataError:
    return DataError(
        f"{_name(sound)} can't be read as sound: {' '.join(str(error).split())[:200]}",
        hint="wav, flac, ogg, opus and mp3 can be read; convert others, by ffmpeg for instance",
    )


def _name(sound: Mapping[str, Any]) -> str:
    return str(sound["path"] or "a sound")
