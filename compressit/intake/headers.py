"""The header of a safetensors file: what each tensor is and where it lies, checked against the file's own size."""

from __future__ import annotations

import json
import math
import struct
from pathlib import Path
from typing import Any

from compressit.errors import IntegrityError, UnsafeError

BITS = {
    "F64": 64, "F32": 32, "F16": 16, "BF16": 16, "I64": 64, "I32": 32, "I16": 16, "I8": 8, "U8": 8, "BOOL": 8,
    "U16": 16, "U32": 32, "U64": 64, "C64": 64, "F8_E4M3": 8, "F8_E5M2": 8, "F8_E8M0": 8, "F6_E2M3": 6, "F6_E3M2": 6,
    "F4": 4,
}  # fmt: skip
MAX_HEADER = 32_000_000
"""Bytes; 200,000 tensors take half of it."""
METADATA = "__metadata__"
MANY = 2**53
"""No tensor has so many numbers."""


def header(file: Path) -> dict[str, Any]:
    """Read the JSON header of a safetensors file: what each tensor is, by name.

    Raises:
        IntegrityError: it is no such file, or shorter or longer than its header says.
        UnsafeError: a tensor's name could lead out of a folder or steer a terminal.
    """
    if not file.is_file():
        raise IntegrityError(f"{file} is not a safetensors file: it is no file")
    size = file.stat().st_size
    with file.open("rb") as stream:
        start = stream.read(8)
        if len(start) < 8:
            raise IntegrityError(f"{file} is not a safetensors file: it has {size} bytes", hint=AGAIN)
        (length,) = struct.unpack("<Q", start)
        if not 2 <= length <= MAX_HEADER:
            raise IntegrityError(f"{file} is not a safetensors file: its header length is {length:,}")
        if 8 + length > size:
            raise IntegrityError(f"{file} has {size:,} bytes, and {8 + length:,} are its header alone", hint=AGAIN)
        text = stream.read(length)
    found = _parsed(file, text)
    end = _checked(file, {name: entry for name, entry in found.items() if name != METADATA})
    if 8 + length + end != size:
        raise IntegrityError(f"{file} has {size:,} bytes, {8 + length + end:,} expected by its header", hint=AGAIN)
    return found


AGAIN = "it was cut short or changed: download or copy it again"


def _parsed(file: Path, text: bytes) -> dict[str, Any]:
    try:
        # As text: of bytes, json would guess at other encodings, which the format doesn't have.
        found = json.loads(text.decode(), object_pairs_hook=_once)
    except (ValueError, RecursionError) as error:
        raise IntegrityError(f"{file} is not a safetensors file: {error}") from error
    metadata = found.get(METADATA, {}) if isinstance(found, dict) else None
    if not isinstance(metadata, dict) or not all(isinstance(value, str) for value in metadata.values()):
        raise IntegrityError(f"{file} is not a safetensors file: its header doesn't say what each tensor is")
    return dict(found)


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        raise ValueError("its header says something twice")
    return found


def _checked(file: Path, tensors: dict[str, Any]) -> int:
    """Look at every tensor's entry; give where the last one ends."""
    places = []
    for name, entry in tensors.items():
        if not _plain(name):
            raise UnsafeError(f"{file} names a tensor {name[:80]!r}, which is no name that a model gives")
        if not _described(entry):
            raise IntegrityError(
                f"{file} is not a safetensors file: its header doesn't say what each tensor is ({name[:80]})"
            )
        begin, end = entry["data_offsets"]
        if (end - begin) * 8 != math.prod(entry["shape"]) * BITS[entry["dtype"]]:
            raise IntegrityError(f"{file}: {name[:80]} has {end - begin:,} bytes, which is not what its shape takes")
        places.append((begin, end))
    reached = 0
    for begin, end in sorted(places):
        if begin != reached:
            raise IntegrityError(f"{file} is not a safetensors file: its tensors overlap, or leave holes")
        reached = end
    return reached


def _plain(name: str) -> bool:
    """Tell whether a name is one of a tensor, and nothing that could be a place elsewhere."""
    parts = name.replace("\\", "/").split("/")
    return 0 < len(name) <= 1000 and name.isprintable() and ".." not in parts and parts[0] not in ("", "~")


def _described(entry: Any) -> bool:
    if not isinstance(entry, dict) or not isinstance(entry.get("dtype"), str) or entry["dtype"] not in BITS:
        return False
    shape, offsets = entry.get("shape"), entry.get("data_offsets")
    if not isinstance(shape, list) or not isinstance(offsets, list) or len(offsets) != 2:
        return False
    whole = all(type(number) is int and 0 <= number < MANY for number in (*shape, *offsets))
    return whole and len(shape) <= 64 and offsets[0] <= offsets[1]
