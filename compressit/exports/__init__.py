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
from typing import TYPE_CHECKING, Any, ClassVar, Self

from pydantic import Field

from compressit import registry
from compressit.errors import StepError
from compressit.spec import Spec, idling
from compressit.steps import Fact, Need

if TYPE_CHECKING:
    from compressit.weights import Weights

CALIBRATE = "name a split in the recipe's dataset: calibration: train[:512]"
"""The remedy where calibration data is missing."""
Calibration = Callable[[int], Iterator[Mapping[str, Any]]]
"""Gives the collated inputs of so many rows, each by itself."""


ONE_PASS = frozenset(
    {
        "audio-classification",
        "fill-mask",
        "image-classification",
        "question-answering",
        "sentence-similarity",
        "text-classification",
        "token-classification",
    }
)
"""Tasks whose models answer in one pass over their inputs, which a traced graph can hold."""


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

    def unfit(self, task: str) -> str | None:
        """Say which of these settings means nothing to a task's models; None where all do."""
        return None

    def packages(self) -> Mapping[str, str]:
        """Name optional packages that these settings need besides the runtime's, and the extra that brings each."""
        return {}

    def settled(self, table: Weights | None) -> Self:
        """Give these settings with what they leave to the model decided.

        Args:
            table: The weights that will be exported; None where they aren't known, which decides nothing.
        """
        return self

    @property
    def artifact(self) -> str:
        """Name the artifact goes by in targets and reports."""
        return self.name or self.export


def decided(written: ExportConfig, settled: ExportConfig) -> dict[str, Any]:
    """Give the fields that were left to the model, as they were settled."""
    return {name: value for name, value in settled if value != getattr(written, name)}


def check_settled(written: ExportConfig, settled: ExportConfig, *, calibrated: bool) -> None:
    """Refuse what does nothing, or wants calibration data where there is none, with what a model decides on.

    Raises:
        StepError: with what to do.
    """
    for name, needs in settled.idle().items():
        if written.says(name):
            raise StepError(f"{written.export}: for such a model {idling(name, needs)}", hint="leave it out")
    if Need.CALIBRATION not in settled.needs() or calibrated:
        return
    fields = decided(written, settled)
    said = ", ".join(f"{name}: {value}" for name, value in fields.items())
    raise StepError(
        f"{written.export} needs calibration data for such a model ({said}), and the recipe names none",
        hint=f"{CALIBRATE}; or choose {' and '.join(fields)} yourself",
    )


def names() -> list[str]:
    """List the artifact formats there are."""
    return registry.names(__name__)


def load(name: str) -> ModuleType:
    """Import an export by name; LookupError if there is none."""
    return registry.load(__name__, name)
