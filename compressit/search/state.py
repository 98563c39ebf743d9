"""Whose trials lie in a folder."""

from __future__ import annotations

import json
import shutil
from contextlib import ExitStack
from pathlib import Path

from compressit import store
from compressit.errors import RecipeError
from compressit.recipe import Open

STATE = "search.json"


def claim(folder: Path, found: Open, stack: ExitStack, *, kind: str = "search") -> None:
    """Make a search's folder ours as long as the stack lasts.

    Raises:
        RecipeError: it is another search's.
        RetryableError: another process is at it.
    """
    stack.enter_context(store.held(folder))
    state = {"kind": kind, "document": found.document.tree, "base": str(found.base)}
    file = folder / STATE
    if file.is_file() and json.loads(file.read_text(encoding="utf-8")) != state:
        hint = "--fresh starts over, or choose another -o; with --trials and --hours alone a search goes on"
        raise RecipeError(f"{folder} holds the trials of another search", hint=hint)
    folder.mkdir(parents=True, exist_ok=True)
    if not file.is_file():
        with store.written(file) as stream:
            stream.write(json.dumps(state, indent=1) + "\n")


def forget(folder: Path) -> None:
    """Remove what a search has left."""
    if (folder / STATE).is_file():
        shutil.rmtree(folder)
