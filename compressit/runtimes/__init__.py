"""What runs an artifact, one file each.

* `open(folder, task, device, trust_remote_code, scratch) -> Session`: ready to run batches; with a folder as `scratch`
  weights stay on disk, and those that must be laid out anew are written there;
* `place(device) -> str`: the device it will really run on where the user wants `device`;
* `inspect(folder) -> Facts`: what the files hold;
* `ready()`, where it needs what may not be installed: raises MissingExtra, and imports nothing;
* `OPENING`, Python lines that open a `folder` without compressit, for its model card, and `LIBRARY`, whose lines these
  are where the file has another name. Both are optional.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any, Protocol

from compressit import registry
from compressit.errors import MissingExtra, StepError

if TYPE_CHECKING:
    from numpy.typing import NDArray

Batch = Mapping[str, Any]
"""Collated arrays by input name."""


class Session(Protocol):
    """An opened artifact."""

    def __call__(self, batch: Batch) -> NDArray[Any]:
        """Run one collated batch; give what the task reads of it, such as logits (examples, classes), or texts."""


@dataclass(frozen=True)
class Facts:
    """What the files of an artifact hold, read from the files.

    Attributes:
        bytes: Size of the files that hold weights.
        parameters: Weights of the network, whatever their precision; scales and zero points are not counted.
        nonzero: How many of them are not zero.
        dtypes: Parameters by the type they are stored in ("float32", "int8", "int4", ...).
    """

    bytes: int
    parameters: int
    nonzero: int
    dtypes: Mapping[str, int]


def names() -> list[str]:
    """List the runtimes there are."""
    return registry.names(__name__)


def load(name: str) -> ModuleType:
    """Import a runtime by name; LookupError if there is none."""
    return registry.load(__name__, name)


def in_memory(name: str, scratch: Path | None) -> None:
    """Refuse to leave weights on disk, for a runtime that can't.

    Raises:
        StepError: they shall stay there.
    """
    if scratch is not None:
        raise StepError(f"{name} holds all weights in memory", hint="use a larger machine or a smaller model")


def missing(name: str) -> StepError | None:
    """Say what a runtime lacks to run here, such as itself; None where it is ready."""
    try:
        getattr(load(name), "ready", lambda: None)()
    except MissingExtra as error:
        return error
    except LookupError as error:
        return StepError(f"{error.args[0]}", hint="install the package that adds it to compressit")
    return None
