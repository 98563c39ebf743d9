"""Compression steps, one file each: a `Config` and a `run(model, config, context) -> Notes`.

Three more functions are optional. `foresee(weights, config) -> Weights | None` says what the step will do to the table
of weights, without torch: the plan estimates sizes with it, and finds a pattern that matches nothing before the work
starts. `claim(folder, config) -> str | None` reads the checkpoint that was saved at the end of the run and says what is
not as the step promised. Where later steps have cut parts out, `remains(stages, config) -> str | None` does so in its
place, if it is there: it reads the checkpoint as the step had left it, as each later cut did, and that of the end.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any, ClassVar

from compressit import registry
from compressit.errors import StepError
from compressit.progress import Progress
from compressit.spec import Spec

if TYPE_CHECKING:
    from datasets import Dataset

    from compressit.model import Model
    from compressit.weights import Weights

Notes = Mapping[str, float | int | str | bool]
CAVEAT = "caveat"
"""The note that a report shows beside its figures: what one has to know to read them, without a full stop."""


class Need(StrEnum):
    """What a step asks of the recipe."""

    CALIBRATION = "calibration"
    TRAINING = "training data"
    TEACHER = "teacher"


class Fact(StrEnum):
    """What a step leaves behind that a later one could undo."""

    SHAPES = "shapes"
    SPARSITY = "sparsity"
    DTYPE = "dtype"
    QUANTIZATION = "quantization"
    CACHE = "scales of keys and values"
    RANGES = "ranges of activations"
    FACTORS = "layers that are two"


@dataclass(frozen=True)
class Dial:
    """The field that says how strongly a step compresses.

    Attributes:
        share: How strongly it does as it is set: about the share of what it works on that goes.
        at: Gives the field's value for another share, from 0 to 1 without these; the nearest that there is.
    """

    field: str
    share: float
    at: Callable[[float], float]


@dataclass(frozen=True)
class Unsaid:
    """Shapes for which plain transformers has no words.

    Attributes:
        why: Which ones, and what lacks words for them.
        sure: Whether a step will leave them, not only may.
        instead: What to write in a recipe in its place that leaves none; empty where there is nothing.
    """

    why: str
    sure: bool = False
    instead: str = ""


class StepConfig(Spec):
    """The fields of one step of a recipe."""

    makes: ClassVar[frozenset[Fact]] = frozenset()
    """What this step leaves behind."""
    keeps: ClassVar[frozenset[Fact]] = frozenset()
    """What earlier steps left behind and this one respects."""
    streams: ClassVar[bool] = False
    """Whether it needs no more than one part of the model in memory at a time."""
    tasks: ClassVar[frozenset[str]] = frozenset()
    """Tasks whose models it can change; empty: every one."""
    together: ClassVar[bool] = False
    """Whether all processes that a launcher has started do it, each with a part of the data."""
    refers_to: ClassVar[tuple[str, ...]] = ()
    """Fields that name other models, by id, folder or demo."""
    renumbers: ClassVar[bool] = False
    """Whether the model reads and writes other tokens afterwards."""
    cuts_inputs: ClassVar[bool] = False
    """Whether single inputs of matrices go, so that M consecutive ones are others afterwards."""

    turns: ClassVar[bool] = False
    """Whether channels are mixed, so that neither they nor single weights stand out afterwards."""
    folds: ClassVar[bool] = False
    """Whether scales move from the inputs of matrices into these, which changes nothing that a block gives."""
    looks_back: ClassVar[bool] = False
    """Whether it brings weights, or what blocks give, back towards the model as the recipe found it."""
    prunes: ClassVar[bool] = False
    """Whether weights, or parts of blocks, go that seem to matter least."""

    effort: ClassVar[str | None] = None
    """The field of which more costs time and can only help quality."""

    step: str
    """Name of the step."""

    def dial(self, table: Weights | None) -> Dial | None:
        """Say how strongly it compresses, and how it is made to do so more or less; None where nothing can be turned.

        Args:
            table: The weights that the step will find; None where they aren't known.
        """
        return None

    def needs(self) -> frozenset[Need]:
        """Say what the recipe must provide for these settings."""
        return frozenset()

    def packages(self) -> Mapping[str, str]:
        """Name optional packages that these settings need, and the extra that brings each."""
        return {"compressed_tensors": "quantization"} if {Fact.QUANTIZATION, Fact.CACHE} & self.made() else {}

    def looks_at(self) -> frozenset[Need]:
        """Say what of it these settings look at where it is there; a step is given nothing else."""
        return self.needs()

    def models(self) -> tuple[str, ...]:
        """Name the other models that these settings name."""
        named: list[str] = []
        for name in self.refers_to:
            value = getattr(self, name)
            named += () if value is None else (value,) if isinstance(value, str) else value
        return tuple(named)

    def uneven(self) -> bool:
        """Say whether blocks come to differ in their shapes with these settings."""
        return False

    def idle_behind(self, made: frozenset[Fact]) -> Mapping[str, str]:
        """Name the fields that do nothing behind what earlier steps have made, and what each of them goes with."""
        return {}

    def unsaid(self, end: Weights | None) -> Unsaid | None:
        """Say for which shapes plain transformers may have no words after this step; None where it has them for all.

        Args:
            end: The weights as the last step of the recipe will leave them; None where they aren't known.
        """
        return None

    def unfit(self, task: str) -> str | None:
        """Say which of these settings means nothing to a task's models; None where all do."""
        return None

    def unable(self, table: Weights) -> str | None:
        """Say what these settings want of a model that it isn't; None where nothing is wrong.

        Args:
            table: The weights that the step will find, whether or not the anatomy of their model is known.
        """
        return None

    def refuse_others(self, task: str) -> None:
        """Refuse models of tasks that this step is not for, as the plan does for those who make one.

        Raises:
            StepError: The task is none of `tasks`.
        """
        if self.tasks and task not in self.tasks:
            raise StepError(f"{self.step} is for {', '.join(sorted(self.tasks))}, not for {task}")

    def streaming(self) -> bool:
        """Say whether it needs no more than one part of the model in memory with these settings."""
        return self.streams

    def walks(self) -> int:
        """Say how many times calibration data is run through the blocks, one after the other."""
        return 0

    def waits(self) -> bool:
        """Say whether passes through a block wait where a matrix is about to change."""
        return False

    def patterned(self) -> bool:
        """Say whether every matrix inside the blocks gets zeros among each M consecutive inputs, as N:M counts them."""
        return False

    def made(self) -> frozenset[Fact]:
        """Say what this step leaves behind with these settings."""
        return self.makes


def sparsity(share: float) -> float:
    """Give the `sparsity` for a share."""
    return min(max(round(share, 3), 0.001), 0.999)


def _untold(at: int, values: Mapping[str, float]) -> None:
    """Tell nobody."""


@dataclass(frozen=True)
class StepContext:
    """What a step is given besides the model and its own settings.

    Attributes:
        train: Rows of the training split, columns named by role, labels as the model's ids; None without one.
        calibration: The same for the calibration split.
        teacher: Gives the model as the recipe found it for None, or the one behind an id, folder or demo name.
        device: Where the model is: "cpu", "cuda", ...
        scratch: A folder of the step's own; what a killed step left in it is there again when it is tried again.
        max_length: Tokens at which a text is cut; None for the model's own limit.
        fields: Those of the data set that the task reads texts by.
        student: Opens the model behind an id, folder or demo name to be trained for these labels, and names what of it
            has learned nothing; None where there is nowhere to look.
        curve: Told figures of a training, such as the loss, after so many of its updates.
        processes: How many do this step together, in one group of torch's.
    """

    train: Dataset | None
    calibration: Dataset | None
    teacher: Callable[[str | None], Model]
    device: str
    seed: int
    progress: Progress
    scratch: Path
    max_length: int | None = None
    fields: Mapping[str, Any] = field(default_factory=dict)
    student: Callable[[str, Mapping[int, str]], tuple[Model, list[str]]] | None = None
    curve: Callable[[int, Mapping[str, float]], None] = _untold
    processes: int = 1


def names() -> list[str]:
    """List the steps there are."""
    return registry.names(__name__)


def load(name: str) -> ModuleType:
    """Import a step by name; LookupError if there is none."""
    return registry.load(__name__, name)
