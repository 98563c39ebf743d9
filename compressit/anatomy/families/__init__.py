"""Architectures, one file each: `FAMILY` says where one keeps its parts.

The file's name is the `model_type` of config.json, with _ for -. A description of the list of blocks alone is enough
for steps that change single matrices:

    FAMILY = Family((Stack("layers"),))

Paths are those below the base model that `model.base_model.named_modules()` prints.
"""

from __future__ import annotations

from types import ModuleType

from compressit import registry


def names() -> list[str]:
    """List the architectures that are known."""
    return registry.names(__name__)


def load(name: str) -> ModuleType:
    """Import an architecture by its `model_type`; LookupError if it isn't known."""
    return registry.load(__name__, name)
