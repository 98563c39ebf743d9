"""A model's config.json: read within bounds, and no figure in it that could only exhaust the machine."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from compressit.errors import StepError, UnsafeError
from compressit.intake.headers import METADATA
from compressit.intake.places import OTHER_JSON

CONFIG = "config.json"
MAX_DEPTH = 32
MAX_SIZE = 2**31
MAX_COUNT = 100_000
FEW = 256
"""So many of anything do no harm."""
SIZES = re.compile(
    r".*(size|dim|dims|embeddings|positions|channels)|d_(model|ff|kv|inner)|n_(embd|inner|positions|ctx)|num_\w+_per_group"
)
"""Keys of what is as wide or as long as a tensor."""
COUNTS = re.compile(
    r"(num|n)_(?!\w+_per_)(\w+_)?(layers?|blocks?|experts?|groups?|labels?|heads?|stages?)|(en|de)coder_layers|depths"
)
"""Keys of what is made one by one."""


def described(folder: Path) -> dict[str, Any]:
    """Read config.json.

    Raises:
        StepError: there is none that can be read.
        UnsafeError: it is too large, too deep, or says of a size what no machine could hold.
    """
    file = folder / CONFIG
    found = parsed(file) if file.is_file() else None
    if found is None:
        raise StepError(f"{folder} holds no config.json that can be read: not a transformers model")
    if not isinstance(found, dict):
        raise StepError(f"{file} is not a mapping: not a transformers model")
    for key, value, _ in entries(found, file):
        for number in _numbers(value):
            count = COUNTS.fullmatch(key) is not None
            wrong = not number <= (MAX_COUNT if count else MAX_SIZE) or (count and number < 0)
            if wrong and (count or SIZES.fullmatch(key)):
                raise _absurd(file, key, number, "which no model's is")
    return found


def check_counts(folder: Path, heads: Iterable[Mapping[str, Any]]) -> None:
    """Refuse a config.json that has more of anything made one by one than there are tensors to fill it, or rows in one.

    Args:
        folder: Of the model.
        heads: Of its safetensors files.

    Raises:
        UnsafeError: it has.
    """
    shapes = [entry["shape"] for head in heads for name, entry in head.items() if name != METADATA]
    most = max(FEW, len(shapes), *(max(shape, default=0) for shape in shapes))
    for key, value, _ in entries(described(folder), folder / CONFIG):
        for number in _numbers(value):
            if COUNTS.fullmatch(key) and number > most:
                told = f"and its weights are {len(shapes):,} tensors of {most:,} rows at most"
                raise _absurd(folder / CONFIG, key, number, told)


def _absurd(file: Path, key: str, number: float, told: str) -> UnsafeError:
    return UnsafeError(
        f"{file} says that {key[:60]} is {str(number)[:30]}, {told}",
        hint="take the model's own config.json from where it was first published",
    )


def parsed(file: Path) -> Any:
    """Read a JSON file within bounds; None where it is not JSON.

    Raises:
        UnsafeError: it is too large or too deep.
    """
    with file.open("rb") as stream:
        data = stream.read(OTHER_JSON + 1)
    if len(data) > OTHER_JSON:
        raise UnsafeError(f"{file} has more than {OTHER_JSON:,} bytes; no model's is so large")
    try:
        return json.loads(data)
    except RecursionError:
        raise UnsafeError(f"{file} is nested more than {MAX_DEPTH} levels deep; no model's is") from None
    except ValueError:
        return None


def entries(tree: Any, file: Path) -> Iterator[tuple[str, Any, dict[str, Any]]]:
    """Give each key of a JSON tree with its value and the mapping it stands in, however deep.

    Raises:
        UnsafeError: it is nested too deep.
    """
    level = [tree]
    for _ in range(MAX_DEPTH):
        below: list[Any] = []
        for each in level:
            if isinstance(each, dict):
                yield from ((key, value, each) for key, value in each.items())
                below += each.values()
            elif isinstance(each, list):
                below += each
        level = [each for each in below if isinstance(each, dict | list)]
    if level:
        raise UnsafeError(f"{file} is nested more than {MAX_DEPTH} levels deep; no model's is")


def _numbers(value: Any) -> Iterator[int | float]:
    for each in value if isinstance(value, list) else [value]:
        if isinstance(each, int | float) and not isinstance(each, bool):
            yield each
