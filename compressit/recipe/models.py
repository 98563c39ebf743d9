"""What a recipe holds."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import AfterValidator, Field, model_validator

from compressit.data.spec import DatasetSpec, Split
from compressit.exports import ExportConfig
from compressit.metrics import MetricConfig
from compressit.model import ModelSpec
from compressit.spec import Spec
from compressit.steps import StepConfig

OBJECTIVES = {"smallest": "size", "fastest": "latency"}
"""Words for metrics that shall be best."""
BOUNDS = ("min", "max", "min_ratio", "max_ratio", "max_drop")


class Target(Spec):
    """A metric and the bound it must keep. Name exactly one bound."""

    metric: str
    """Name of the metric."""
    artifact: str | None = None
    """Which artifact is judged: `checkpoint` or an export's name (default: the last one made)."""
    min: float | str | None = None
    """Least value, with a unit where the metric has one, such as `0.9` or `1000 /s`."""
    max: float | str | None = None
    """Greatest value, with a unit where the metric has one, such as `70 MB` or `5 ms`."""
    min_ratio: float | None = Field(None, gt=0)
    """Least value as a multiple of the original's on the same runtime."""
    max_ratio: float | None = Field(None, gt=0)
    """Greatest value as a multiple of the original's on the same runtime."""
    max_drop: float | None = Field(None, ge=0)
    """How far the value may fall below the original's, on the same examples."""

    @model_validator(mode="after")
    def _one_bound(self) -> Target:
        if len(self.bounds()) != 1:
            raise ValueError(f"a target needs exactly one of {', '.join(BOUNDS)}; this one has {len(self.bounds())}")
        return self

    def bounds(self) -> dict[str, float | str]:
        """The bounds that are set, by name; a valid target has one."""
        return {name: value for name in BOUNDS if (value := getattr(self, name)) is not None}

    @property
    def bound(self) -> tuple[str, float | str]:
        """Name and value of the bound."""
        return next(iter(self.bounds().items()))


class Expectation(Spec):
    """A figure that the original is known to reach; where it doesn't, a run stops before any work."""

    metric: str
    """Name of the metric."""
    value: float | str
    """What the original is known to reach, with a unit where the metric has one."""
    within: float = Field(0.02, gt=0, lt=1)
    """How far off it may be, as a share of the value, besides what so many examples leave open."""


def _objective(written: str) -> str:
    return OBJECTIVES.get(written, written)


class SearchSpec(Spec):
    """What `compressit search` goes by; other verbs have no use for it."""

    tuning: Split
    """Split that trials are judged on: rows that neither the model nor any step has learned from, or the original looks
    better than it is. The evaluation split judges what was chosen, once."""
    objective: Annotated[str, AfterValidator(_objective)] | tuple[Annotated[str, AfterValidator(_objective)], ...] = ()
    """`smallest`, `fastest` or a metric that shall be best among what meets all targets; several make a front, from
    which the best by the first of them is taken. `--auto` needs none."""
    sampler: Literal["tpe", "nsga2", "random"] = "tpe"
    """How Optuna proposes: by a model of what was good (tpe), by breeding (nsga2, for many trials), or blindly."""

    @property
    def objectives(self) -> tuple[str, ...]:
        """The metrics that shall be best."""
        return (self.objective,) if isinstance(self.objective, str) else self.objective


class Recipe(Spec):
    """One model, one data set, ordered compression steps, exports, and the targets the result must meet."""

    name: str = Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,79}$")
    """Name of the result; letters, digits, dots, dashes and underscores."""
    task: str
    """What the model does, such as `text-classification`."""
    model: ModelSpec
    """The model to compress."""
    dataset: DatasetSpec | None = None
    """The data it is trained, calibrated and judged on."""
    steps: tuple[StepConfig, ...] = ()
    """What is done to the model, in order."""
    exports: tuple[ExportConfig, ...] = ()
    """Artifacts to make besides the checkpoint."""
    metrics: tuple[MetricConfig, ...] = ()
    """What is measured (default: the task's own metrics, and those the targets name)."""
    expect: tuple[Expectation, ...] = ()
    """Figures that the original is known to reach, to find out that data or labels are not what they should be."""
    targets: tuple[Target, ...] = ()
    """What the result must meet; decides the exit code."""
    search: SearchSpec | None = None
    """How what is left open is searched for."""
    seed: int = Field(0, ge=0, lt=2**32)
    """Seed of everything random."""
