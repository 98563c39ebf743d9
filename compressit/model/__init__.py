"""Models: where they come from, their matrices, in memory or left on disk, and how they are saved."""

from __future__ import annotations

from compressit.model.fetching import check_held, check_safe, fetch, here
from compressit.model.fitting import opens_plainly
from compressit.model.opening import beginner, labels, load, positions, processor
from compressit.model.patterns import matching
from compressit.model.whole import Model, cast
from compressit.spec import Location, Spec

__all__ = [
    "Model", "ModelSpec", "beginner", "cast", "check_held", "check_safe", "fetch", "here", "labels", "load",
    "matching", "opens_plainly", "positions", "processor",
]  # fmt: skip


class ModelSpec(Spec):
    """Which model a recipe starts from."""

    path: Location
    """Hub id, local folder, or demo:NAME."""
    revision: str | None = None
    """Branch, tag or commit on the hub."""
