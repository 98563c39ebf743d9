"""Which version the code of a step or an export is: the SHA-256 of the files that can change what it makes."""

from __future__ import annotations

import ast
import hashlib
from pathlib import Path
from types import ModuleType

import compressit

ROOT = Path(compressit.__file__).parent
BELOW = ("algorithms", "anatomy", "data", "model", "tasks")
"""Rooms that every step and export may stand on."""


def version(module: ModuleType) -> str:
    """Hash its own files, those of its room that it imports, and the rooms that all of them stand on.

    One of another package is hashed with all that lies in its folder.
    """
    own = Path(str(module.__file__))
    files = _imported(own) if own.is_relative_to(ROOT) else set(own.parent.rglob("*.py"))
    for room in BELOW:
        files |= set((ROOT / room).rglob("*.py"))
    whole = hashlib.sha256()
    for file in sorted(files):
        name = file.relative_to(ROOT if file.is_relative_to(ROOT) else own.parent).as_posix()
        whole.update(f"{name}\0{hashlib.sha256(file.read_bytes()).hexdigest()}\n".encode())
    return whole.hexdigest()


def _imported(file: Path) -> set[Path]:
    """Follow the imports within a room from one of its files."""
    room = ".".join(("compressit", *file.parent.relative_to(ROOT).parts))
    found: set[Path] = set()
    ahead = [file]
    while ahead:
        one = ahead.pop()
        found.add(one)
        for node in ast.walk(ast.parse(one.read_text(encoding="utf-8"))):
            if not isinstance(node, ast.ImportFrom) or not (node.module or "").startswith(room):
                continue
            stems = [str(node.module).rpartition(".")[2], *(alias.name for alias in node.names)]
            named = (file.parent / f"{stem}.py" for stem in stems)
            ahead += [path for path in named if path.is_file() and path not in found]
    return found
