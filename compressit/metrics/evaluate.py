"""Any metric of the `evaluate` library that compares predicted labels with true ones, by name.

Recipe::

    - metric: evaluate
      load: poseval
      result: accuracy
"""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

from pydantic import Field

from compressit.errors import MissingExtra, RetryableError, StepError, UnsafeError
from compressit.metrics import Evidence, Kind, MetricConfig, Predictions

KIND = Kind.CORPUS
BETTER = "higher"
UNIT = ""
READS = (Predictions,)
RESAMPLES = 200
"""Fewer than for other metrics: the library takes milliseconds for each."""


class Config(MetricConfig):
    """Fields of the metric."""

    load: str = Field(pattern=r"^[a-z0-9][a-z0-9_-]*$")
    """Name of the metric as `evaluate.load` takes it; only the library's own metrics, never a path."""
    result: str | None = None
    """Which of its figures (default: the one named like it, or the first)."""

    @property
    def key(self) -> str:
        """Go by the metric's own name."""
        return self.name or self.load

    def packages(self) -> dict[str, str]:
        """Name what computes it."""
        return {"evaluate": "evaluate"}


def measure(evidence: Evidence, config: Config) -> float:
    """Compute it over the evaluation split."""
    said = evidence.said(Predictions)
    try:
        figures = _library(config.load).compute(predictions=said.choices, references=said.labels)
    except (ValueError, TypeError) as error:
        raise StepError(f"evaluate's metric {config.load!r} does not take labels: {error}") from error
    name = config.result or (config.load if config.load in figures else next(iter(figures)))
    if name not in figures:
        raise StepError(f"evaluate's metric {config.load!r} gives {', '.join(figures)}, not {name!r}")
    return float(figures[name]) if figures[name] is not None else math.nan


def ready(config: Config) -> None:
    """Load it before any work is done, so that one that can't be had costs nothing."""
    _library(config.load)


def _library(name: str) -> Any:
    if Path(name).exists():
        raise UnsafeError(f"evaluate.load({name!r}) would run code of ./{name}", hint="run from another folder")
    try:
        import evaluate
    except ImportError:
        raise MissingExtra("evaluate", "evaluate") from None
    try:
        return evaluate.load(name, module_type="metric")
    except (OSError, ConnectionError) as error:
        raise RetryableError(
            f"evaluate's metric {name!r} is not in the cache and the hub can't be reached",
            hint=f"fetch it once where there is a network: python -c \"import evaluate; evaluate.load('{name}')\"",
        ) from error
    except (ImportError, ValueError) as error:
        raise StepError(f"evaluate's metric {name!r} can't be loaded: {error}") from error
