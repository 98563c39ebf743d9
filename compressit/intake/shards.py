"""The safetensors files of a model, and the index that says which tensor lies in which of them."""

from __future__ import annotations

import json
import re
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

from compressit.errors import IntegrityError, UnsafeError
from compressit.intake.headers import header
from compressit.intake.places import OTHER_JSON

WEIGHTS, INDEX = "model.safetensors", "model.safetensors.index.json"
SHARD = re.compile(r"model-\d+-of-\d+\.safetensors")


def check_shards(folder: Path) -> Mapping[str, Mapping[str, Any]]:
    """Look at the headers of all safetensors files, and at what the index says of them, before a tensor is read.

    Returns:
        The header of each file by its name.

    Raises:
        IntegrityError: a file is cut short, missing, or not what the index says.
        UnsafeError: the index or a tensor's name leads out of the folder.
    """
    table = _table(folder / INDEX) if (folder / INDEX).is_file() else {}
    heads = {file.name: header(file) for file in sorted(folder.glob("*.safetensors"))}
    if WEIGHTS in heads:
        return heads
    shards = {name for name in heads if SHARD.fullmatch(name)}
    if not table:
        if shards:
            raise IntegrityError(f"{folder} holds {_some(shards)} and no {INDEX} that says what lies where", hint=AGAIN)
        return heads
    if missing := set(table.values()) - heads.keys():
        raise IntegrityError(f"{folder} lacks {_some(missing)}, which {INDEX} names", hint=AGAIN)
    if strange := shards - set(table.values()):
        raise IntegrityError(f"{folder} holds {_some(strange)}, which {INDEX} doesn't name", hint=AGAIN)
    if stale := {name for name, shard in table.items() if name not in heads[shard]}:
        raise IntegrityError(f"{folder}: {INDEX} is not of these files, which lack {_some(stale)}", hint=AGAIN)
    return heads


def lacking(folder: Path) -> str | None:
    """Say which of the weights' files a folder lacks; None where it lacks none.

    Raises:
        UnsafeError: see `check_shards`.
    """
    held = {file.name for file in folder.glob("*.safetensors") if file.is_file()}
    wanted = set(_table(folder / INDEX).values()) if (folder / INDEX).is_file() and WEIGHTS not in held else set()
    return _some(wanted - held) if wanted - held else None if held else WEIGHTS


AGAIN = "download or copy the whole model again, into an empty folder"


def _table(file: Path) -> dict[str, str]:
    """Read which file each tensor lies in."""
    if file.stat().st_size > OTHER_JSON:
        raise UnsafeError(f"{file} has {file.stat().st_size:,} bytes; no model's is larger than {OTHER_JSON:,}")
    try:
        found = json.loads(file.read_bytes(), object_pairs_hook=_pairs)
    except UnsafeError as error:
        raise UnsafeError(f"{file} {error.message}", hint=AGAIN) from error
    except (ValueError, RecursionError) as error:
        raise IntegrityError(f"{file} can't be read: {error}", hint=AGAIN) from error
    table = found.get("weight_map") if isinstance(found, dict) else None
    if not isinstance(table, dict):
        raise IntegrityError(f"{file} has no weight_map", hint=AGAIN)
    for name, shard in table.items():
        if not isinstance(shard, str) or not re.fullmatch(r"[\w-][\w.-]*\.safetensors", shard, re.ASCII):
            raise UnsafeError(f"{file} says that {name[:80]!r} lies in {str(shard)[:80]!r}, which is no file beside it")
    return table


def _pairs(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        raise UnsafeError("says one thing twice, and can be read in two ways")
    return found


def _some(names: Collection[str]) -> str:
    first = sorted(names)[:3]
    return ", ".join(first) + (f" and {len(names) - 3:,} more" if len(names) > 3 else "")
