"""Metrics, one file each: a `Config`, `KIND`, `BETTER`, `UNIT` and a `measure(evidence, config) -> float`.

`KIND` says how sure one can be of the value, and so how a target on it is judged (see `report.verdicts`):

* `Kind.MEAN`: the mean of `per_example(evidence, config)`; judged by a bound over paired examples, or over the groups
  of examples that it gives a figure each;
* `Kind.CORPUS`: a figure of the whole split, such as F1; judged by resampling examples;
* `Kind.TIMED`: a figure of repeated timings, `per_run(seconds, config)`; judged by paired, interleaved runs;
* `Kind.EXACT`: a figure that has no error, such as a file's size.

A metric of what the model says names in `READS` the kinds of `compressit.outputs` that it reads, and in `ROLES` roles
that the data must have. A mean over predictions, of which an example may hold many, gives their sums in `per_example`
and their number in `weights(evidence, config)`; where examples differ in it, whole examples are resampled. A figure of
the whole split that only needs sums over examples gives them in `sums(evidence, config)`, (examples, k), and what they
come to in `figure(total, config)`: it is resampled without going back to what the model said. One that can prepare
itself in another way gives in `on_some(evidence, config)` what measures it on some of the examples.

Optional are `RANGE`, its least and greatest value; `details(evidence, config)`, figures that stand beside it;
`ON_EXAMPLES`, for an exact figure that still needs examples; and `PER_TOKEN`, for one that counts a language model's
tokens and says nothing where those are not what they were. So are `ready(config)` and `fits(config, labels)`, which is
given the model's labels by id: they are called before a run begins, and raise where the metric could not be measured.
`described(config)` says how a library that computes the figure describes what it does, for the report.
`IN_MEMORY` marks a figure that weights read from disk would falsify, as they would every timed one. `VERSION` (default
1) rises when the same evidence comes to another value: runs of two versions are not compared.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from enum import StrEnum
from types import ModuleType
from typing import TYPE_CHECKING, Any, TypeVar

from pydantic import Field

from compressit import registry
from compressit.errors import RecipeError
from compressit.outputs import Answers, Choices, MaskedTokens, Output, Pairs, Predictions, Tags, Texts, TokenScores
from compressit.runtimes import Facts
from compressit.spec import Spec

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray


__all__ = [
    "Answers",
    "Choices",
    "Evidence",
    "Kind",
    "MaskedTokens",
    "MetricConfig",
    "Output",
    "Pairs",
    "Predictions",
    "Tags",
    "Texts",
    "Timings",
    "TokenScores",
    "described",
    "fits",
    "load",
    "names",
    "value",
    "version",
]

Kept = TypeVar("Kept", bound=Output)


class Kind(StrEnum):
    """How sure one can be of a metric's value."""

    MEAN = "mean"
    CORPUS = "corpus"
    TIMED = "timed"
    EXACT = "exact"


class MetricConfig(Spec):
    """The fields of one metric of a recipe."""

    metric: str
    """Name of the metric."""
    name: str | None = Field(None, pattern=r"^[a-z][a-z0-9_-]{0,40}$")
    """What targets and reports call it, to tell two of a kind apart (default: the metric's name)."""

    @property
    def key(self) -> str:
        """Name it goes by in targets and reports."""
        return self.name or self.metric

    def packages(self) -> Mapping[str, str]:
        """Name optional packages that compute it, and the extra that brings each."""
        return {}

    def batch_sizes(self) -> tuple[int, ...]:
        """Batch sizes at which the artifact must be timed for this metric."""
        return ()


@dataclass(frozen=True)
class Timings:
    """Seconds of one batch, run by run; run k of every artifact timed together saw the same examples.

    Attributes:
        artifact: (runs,) of the artifact itself.
        baseline: (runs,) of the original on the same runtime.
        again: (runs,) of the original on the same runtime, opened a second time: the machine's own noise.
        original: (runs,) of the original on torch.
    """

    batch_size: int
    artifact: NDArray[np.float64]
    baseline: NDArray[np.float64]
    again: NDArray[np.float64]
    original: NDArray[np.float64]


@dataclass(frozen=True)
class Evidence:
    """Everything measured about one saved artifact.

    Attributes:
        facts: What its files hold.
        predictions: What it said of each example.
        reference: What the original said of the same examples.
        timings: By batch size.
        memory: Bytes of memory that opening and running it added at the peak.
    """

    facts: Facts
    predictions: Output
    reference: Output
    timings: Mapping[int, Timings]
    memory: int

    def said(self, kind: type[Kept]) -> Kept:
        """Give the predictions as the kind that a metric reads; the rules see to it that they are."""
        assert isinstance(self.predictions, kind), f"{kind.__name__} are not what this task's models say"
        return self.predictions

    def take(self, indices: NDArray[np.int64]) -> Evidence:
        """Keep the examples at `indices`, for resampling."""
        return replace(self, predictions=self.predictions.take(indices), reference=self.reference.take(indices))


def names() -> list[str]:
    """List the metrics there are."""
    return registry.names(__name__)


def load(name: str) -> ModuleType:
    """Import a metric by name; LookupError if there is none."""
    return registry.load(__name__, name)


def fits(config: MetricConfig, roles: Sequence[str], labels: Mapping[int, str]) -> None:
    """Raise RecipeError where the data lacks a role that a metric is about, or the model a label."""
    module = load(config.metric)
    missing = lacking(config.metric, roles)
    if missing:
        raise RecipeError(
            f"{config.key} is about rows that have {' and '.join(missing)}, which the data has not",
            hint=naming(missing),
        )
    getattr(module, "fits", lambda config, labels: None)(config, labels)


def lacking(metric: str, roles: Collection[str]) -> list[str]:
    """List the roles that a metric is about and that are not among some."""
    return [role for role in getattr(load(metric), "ROLES", ()) if role not in roles]


def naming(roles: Sequence[str]) -> str:
    """Say how a recipe names the columns of roles."""
    columns = ", ".join(f"{role}: COLUMN" for role in roles)
    return f"name the column in the recipe's dataset: columns: {{{columns}}}"


def described(configs: Sequence[MetricConfig]) -> dict[str, str]:
    """Say of each metric that a library computes, by the name it goes by, how that describes what it does."""
    modules = {config: getattr(load(config.metric), "described", None) for config in configs}
    return {config.key: describe(config) for config, describe in modules.items() if describe is not None}


def version(name: str) -> int:
    """Give the version of a metric's definition."""
    found: int = getattr(load(name), "VERSION", 1)
    return found


def value(evidence: Evidence, config: MetricConfig) -> float:
    """Measure one metric; a float that may be NaN, which no target passes."""
    module: Any = load(config.metric)
    return float(module.measure(evidence, config))
