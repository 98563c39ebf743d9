"""A run of Weights & Biases: the recipe as its config, figures and verdicts as its summary, curves, report files.

WANDB_PROJECT (default: compressit), WANDB_ENTITY, WANDB_API_KEY, WANDB_BASE_URL and its other variables say where;
WANDB_MODE=offline keeps the run in ./wandb for `wandb sync`.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path

from compressit import machine
from compressit.trackers import PROJECT, Opening

SECONDS = 20
"""How long the service may take to begin a run."""


def ready() -> None:
    """Raise MissingExtra where wandb isn't installed."""
    machine.need({"wandb": "wandb"})


def open(run: Opening) -> _Sink:
    """Begin a run."""
    return _Sink(run)


class _Sink:
    def __init__(self, run: Opening) -> None:
        import wandb

        # Nothing is sent but what it is given: no code, command line, list of packages or load of the machine.
        settings = wandb.Settings(
            init_timeout=SECONDS,
            console="off",
            silent=True,
            save_code=False,
            disable_git=True,
            disable_code=True,
            disable_job_creation=True,
            x_disable_stats=True,
            x_disable_meta=True,
            x_save_requirements=False,
        )
        self._run = wandb.init(
            project=os.environ.get("WANDB_PROJECT", PROJECT),
            name=run.name,
            config=dict(run.parameters),
            settings=settings,
        )
        self.place = self._run.url or self._run.dir
        self._axes: set[str] = set()

    def scalars(self, values: Mapping[str, float], at: int) -> None:
        # A run has one counter by itself; each group of curves here has its own.
        group = next(iter(values), "").rpartition("/")[0]
        axis = f"{group}/at"
        if axis not in self._axes:
            self._axes.add(axis)
            self._run.define_metric(axis, hidden=True)
            self._run.define_metric(f"{group}/*", step_metric=axis)
        self._run.log({**values, axis: at})

    def report(self, figures: Mapping[str, float], facts: Mapping[str, str], files: Mapping[str, Path]) -> None:
        self._run.summary.update({**figures, **facts})
        for file in files.values():
            self._run.save(str(file), base_path=str(file.parent), policy="now")

    def close(self, succeeded: bool) -> None:
        self._run.finish(exit_code=0 if succeeded else 1)
