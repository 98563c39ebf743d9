"""A run of MLflow: the recipe as parameters, figures and curves as metrics, verdicts as tags, report files.

MLFLOW_TRACKING_URI, MLFLOW_EXPERIMENT_NAME and MLflow's other variables say where (default: where MLflow itself would
write, in an experiment named compressit).
"""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from pathlib import Path

from compressit.trackers import PROJECT, Opening, need

AT_ONCE = 100
"""Parameters that a server takes in one request."""
LONGEST = 5000
"""Characters of a value that a server takes."""
LIMITS = {"MLFLOW_HTTP_REQUEST_MAX_RETRIES": "2", "MLFLOW_HTTP_REQUEST_TIMEOUT": "20"}
"""Else the client tries for minutes."""


def ready() -> None:
    """Raise MissingExtra where mlflow isn't installed, or what its own database needs where no other place is named."""
    for package in ("mlflow", *([] if os.environ.get("MLFLOW_TRACKING_URI") else ["sqlalchemy", "alembic"])):
        need(package, "mlflow")


def open(run: Opening) -> _Sink:
    """Begin a run."""
    for name, value in LIMITS.items():
        os.environ.setdefault(name, value)
    return _Sink(run)


class _Sink:
    def __init__(self, run: Opening) -> None:
        import mlflow

        if not {"MLFLOW_EXPERIMENT_NAME", "MLFLOW_EXPERIMENT_ID"} & os.environ.keys():
            mlflow.set_experiment(PROJECT)
        begun = mlflow.start_run(run_name=run.name)
        where = mlflow.get_tracking_uri()
        page = f"{where}/#/experiments/{begun.info.experiment_id}/runs/{begun.info.run_id}"
        self.place = page if where.startswith("http") else f"{where} (run {begun.info.run_id})"
        fields = [(_name(name), str(value)[:LONGEST]) for name, value in run.parameters.items()]
        for start in range(0, len(fields), AT_ONCE):
            mlflow.log_params(dict(fields[start : start + AT_ONCE]))

    def scalars(self, values: Mapping[str, float], at: int) -> None:
        import mlflow

        mlflow.log_metrics({_name(name): value for name, value in values.items()}, step=at)

    def report(self, figures: Mapping[str, float], facts: Mapping[str, str], files: Mapping[str, Path]) -> None:
        import mlflow

        self.scalars(figures, 0)
        mlflow.set_tags({_name(name): text[:LONGEST] for name, text in facts.items()})
        for file in files.values():
            mlflow.log_artifact(str(file))

    def close(self, succeeded: bool) -> None:
        import mlflow

        mlflow.end_run("FINISHED" if succeeded else "FAILED")


def _name(name: str) -> str:
    """Spell a name with the characters that are allowed."""
    return re.sub(r"[^\w\-. /]", "-", name)[:250]
