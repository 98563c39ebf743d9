"""Artifact formats, one file each: a `Config` and a `run(model, config, folder, examples) -> Notes`.

`examples` are collated batches of real inputs; an export checks its file against the checkpoint's own logits on them.
"""

from __future__ import annotations

from types import ModuleType
from typing import ClassVar

from pydantic import Field

from compressit import registry
from compressit.spec import Spec
from compressit.steps import Fact


class ExportConfig(Spec):
    """The fields of one export of a recipe."""

    runtime: ClassVar[str]
    """Which runtime runs the file."""
    carries: ClassVar[frozenset[Fact]] = frozenset()
    """What of the steps' work the format can hold."""

    tasks: ClassVar[frozenset[str]] = frozenset()
    """Tasks whose models the format can hold; empty: every one."""

    export: str
    """Name of the format."""
    name: str | None = Field(None, pattern=r"^[a-z][a-z0-9_-]{0,40}$")
    """Folder and name of this artifact (default: the format's name)."""

    @property
    def artifact(self) -> str:
        """Name the artifact goes by in targets and reports."""
        return self.name or self.export


def names() -> list[str]:
    """List the artifact formats there are."""
    return registry.names(__name__)


def load(name: str) -> ModuleType:
    """Import an export by name; LookupError if there is none."""
    return registry.load(__name__, name)
