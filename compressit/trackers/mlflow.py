"""A run of MLflow: the recipe as parameters, figures and curves as metrics, verdicts as tags, report files.

MLFLOW_TRACKING_URI, MLFLOW_EXPERIMENT_NAME and MLflow's other variables say where (default: where MLflow itself would
write, in an experiment named compressit).
"""

from __future__ import annotations

import os
import re
import time
from collections.abc import Mapping
from pathlib import Path

from compressit import machine
from compressit.trackers import PROJECT, Opening

AT_ONCE = 100
"""Parameters that a server takes in one request."""
LONGEST = 5000
"""Characters of a value that a server takes."""
LIMITS = {"MLFLOW_HTTP_REQUEST_MAX_RETRIES": "2", "MLFLOW_HTTP_REQUEST_TIMEOUT": "20"}
"""Else the client tries for minutes."""


def ready() -> None:
    """Raise MissingExtra where mlflow isn't installed, or what its own database needs where no other place is named."""
    for package in ("mlflow", *([] if os.environ.get("MLFLOW_TRACKING_URI") else ["sqlalchemy", "alembic"])):
        machine.need({package: "mlflow"})


def open(run: Opening) -> _Sink:
    """Begin a run."""
    for name, value in LIMITS.items():
        os.environ.setdefault(name, value)
    return _Sink(run)


class _Sink:
    def __init__(self, run: Opening) -> None:
        from mlflow import MlflowClient
        from mlflow.entities import Param

        # Not mlflow.start_run, which also sends the user's name and the commit of whatever repository this file is in.
        self._client = MlflowClient()
        begun = self._client.create_run(self._experiment(), run_name=run.name).info
        self._run = begun.run_id
        where = self._client.tracking_uri
        page = f"{where}/#/experiments/{begun.experiment_id}/runs/{begun.run_id}"
        self.place = page if where.startswith("http") else f"{where} (run {begun.run_id})"
        fields = [Param(_name(name), str(value)[:LONGEST]) for name, value in run.parameters.items()]
        for start in range(0, len(fields), AT_ONCE):
            self._client.log_batch(self._run, params=fields[start : start + AT_ONCE])

    def scalars(self, values: Mapping[str, float], at: int) -> None:
        from mlflow.entities import Metric

        now = time.time_ns() // 1_000_000
        self._client.log_batch(self._run, [Metric(_name(name), value, now, at) for name, value in values.items()])

    def report(self, figures: Mapping[str, float], facts: Mapping[str, str], files: Mapping[str, Path]) -> None:
        from mlflow.entities import RunTag

        self.scalars(figures, 0)
        self._client.log_batch(self._run, tags=[RunTag(_name(name), text[:LONGEST]) for name, text in facts.items()])
        for file in files.values():
            self._client.log_artifact(self._run, str(file))

    def close(self, succeeded: bool) -> None:
        self._client.set_terminated(self._run, "FINISHED" if succeeded else "FAILED")

    def _experiment(self) -> str:
        """Find the experiment that the environment names, or make it."""
        if given := os.environ.get("MLFLOW_EXPERIMENT_ID"):
            return given
        name = os.environ.get("MLFLOW_EXPERIMENT_NAME", PROJECT)
        there = self._client.get_experiment_by_name(name)
        found: str = self._client.create_experiment(name) if there is None else there.experiment_id
        return found


def _name(name: str) -> str:
    """Spell a name with the characters that are allowed."""
    return re.sub(r"[^\w\-. /]", "-", name)[:250]
