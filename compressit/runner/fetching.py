"""Where a model lies: a demo's, a folder, or the hub's."""

from __future__ import annotations

from pathlib import Path

from compressit import demo
from compressit import model as models
from compressit.progress import Progress


def fetched(path: str, revision: str | None, trust: bool, progress: Progress) -> Path:
    """Give the folder of a model, trained or downloaded first if it must be."""
    if path.startswith("demo:"):
        return demo.folder(path, progress)
    return models.fetch(path, revision, trust_remote_code=trust)
