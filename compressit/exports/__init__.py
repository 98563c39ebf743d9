"""Artifact formats, one file each: a `Config` and a `run(model, config, folder, examples, calibration) -> Notes`.

`examples` are collated batches of real inputs; an export checks its file against the checkpoint's own logits on them.
`calibration(rows)` gives the inputs of about so many rows of the calibration split, one by one and without padding; it
is None where the recipe names no such split.

`foresee(config, steps, weights)`, which is optional, raises a CompressitError for what the file couldn't hold of a
recipe's steps and of the weights that they leave (None where these aren't known): it is told before any work.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from types import ModuleType
from typing import Any, ClassVar

from pydantic import Field

from compressit import registry
from compressit.spec import Spec
from compressit.steps import Fact, Need

Calibration = Callable[[int], Iterator[Mapping[str, Any]]]
"""Gives the collated inputs of so many rows, each by itself."""


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

    def needs(self) -> frozenset[Need]:
        """Say what the recipe must provide for these settings."""
        return frozenset()

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
