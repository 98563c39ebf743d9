"""A folder of files is a registry: the file name is the name in a recipe.

An installed package may add to a room through the entry-point group of the room's name (`compressit.steps`, ...). An
entry point is loaded only when a recipe names it.
"""

from __future__ import annotations

import difflib
import functools
import importlib
import pkgutil
from importlib.metadata import EntryPoint, entry_points
from types import ModuleType


def names(room: str) -> list[str]:
    """List the names that a recipe may use from a room such as `compressit.steps`."""
    folder = importlib.import_module(room).__path__
    files = {module.name for module in pkgutil.iter_modules(folder) if not module.name.startswith("_")}
    return sorted(files | _plugins(room).keys())


@functools.cache
def load(room: str, name: str) -> ModuleType:
    """Import the file behind a name; what is installed is looked up once.

    Raises:
        LookupError: no such name; the message carries the nearest ones.
    """
    file = name.replace("-", "_")
    plugins = _plugins(room)
    if file not in names(room):
        raise LookupError(f"unknown {room.rsplit('.', 1)[-1].removesuffix('s')} {name!r}{suggest(name, names(room))}")
    if file in plugins:
        module = plugins[file].load()
        if not isinstance(module, ModuleType):
            raise TypeError(f"entry point {plugins[file].value!r} in group {room!r} must be a module")
        return module
    return importlib.import_module(f"{room}.{file}")


def summary(module: ModuleType) -> str:
    """Take the first line of a module's docstring."""
    return (module.__doc__ or "").strip().split("\n", 1)[0]


def suggest(word: str, known: list[str]) -> str:
    """Say which known words are near a misspelt one, or which there are."""
    near = difflib.get_close_matches(word, known, n=2, cutoff=0.6)
    if near:
        return f"; did you mean {' or '.join(repr(name) for name in near)}?"
    return f"; there are: {', '.join(known)}" if known else ""


def _plugins(room: str) -> dict[str, EntryPoint]:
    return {entry.name: entry for entry in entry_points(group=room)}
