"""Where a run can be followed besides its own report, one file for each service.

* `ready()` raises MissingExtra where its library isn't installed, and imports nothing;
* `open(run: Opening) -> Sink` begins a run there.

The file's docstring says where it writes, by the library's own environment variables. It may block, print and raise as
it likes: `compressit.tracking` has it in a process of its own, which a run never waits for while it works.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Protocol

from compressit import registry

PROJECT = "compressit"
"""What runs are gathered under where the user's environment says nothing else."""


@dataclass(frozen=True)
class Opening:
    """What is known when a run begins.

    Attributes:
        name: The recipe's name.
        folder: Where its result goes, or is.
        parameters: The recipe, flat: "steps.0.keep" and the like.
    """

    name: str
    folder: Path
    parameters: Mapping[str, str | int | float | bool]


class Sink(Protocol):
    """A run that has begun at a service.

    Attributes:
        place: Where people find it: an address, a folder, a command.
    """

    place: str

    def scalars(self, values: Mapping[str, float], at: int) -> None:
        """Add a point to curves; each curve counts its own `at`."""

    def report(self, figures: Mapping[str, float], facts: Mapping[str, str], files: Mapping[str, Path]) -> None:
        """Take the end result: figures by artifact and metric, verdicts and such in words, the report for people."""

    def close(self, succeeded: bool) -> None:
        """End the run, with everything sent."""


def names() -> list[str]:
    """List the trackers there are."""
    return registry.names(__name__)


def load(name: str) -> ModuleType:
    """Import a tracker by name; LookupError if there is none."""
    return registry.load(__name__, name)
