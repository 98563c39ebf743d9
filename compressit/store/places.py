"""Where things lie that can be made again."""

from __future__ import annotations

import os
from pathlib import Path


def home() -> Path:
    """Folder for what can be made again: demo models, checkpoints of finished steps, the notes of unfinished ones."""
    named = os.environ.get("COMPRESSIT_CACHE")
    if named:
        return Path(named).expanduser()
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "compressit"
