"""A run of trackio, on this machine or in a Space of the hub: the recipe as its config, curves, figures, report files.

TRACKIO_DIR says where on this machine (`trackio show` opens it), TRACKIO_SPACE_ID or TRACKIO_SERVER_URL where else, and
TRACKIO_PROJECT in which project (default: compressit).
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path

from compressit import machine
from compressit.trackers import PROJECT, Opening


def ready() -> None:
    """Raise MissingExtra where trackio isn't installed."""
    machine.need({"trackio": "trackio"})


def open(run: Opening) -> _Sink:
    """Begin a run."""
    return _Sink(run)


class _Sink:
    def __init__(self, run: Opening) -> None:
        import trackio

        self._project = os.environ.get("TRACKIO_PROJECT", PROJECT)
        self._run = trackio.init(
            self._project,
            # Its runs of one name are one run.
            name=f"{run.name}-{os.getpid()}",
            group=run.name,
            config=dict(run.parameters),
            embed=False,
            auto_log_gpu=False,
            auto_log_cpu=False,
        )
        where = os.environ.get("TRACKIO_SPACE_ID") or os.environ.get("TRACKIO_SERVER_URL")
        self.place = f"{where or 'trackio show'} (project {self._project}, run {self._run.name})"

    def scalars(self, values: Mapping[str, float], at: int) -> None:
        self._run.log(dict(values), step=at)

    def report(self, figures: Mapping[str, float], facts: Mapping[str, str], files: Mapping[str, Path]) -> None:
        import trackio

        said = "\n".join(f"* {name}: {text}" for name, text in facts.items())
        report = files["report.md"].read_text(encoding="utf-8")
        self._run.log({**figures, "facts": trackio.Markdown(said), "report": trackio.Markdown(report)})
        trackio.log_artifact(files["report.html"], name="report.html", type="report")

    def close(self, succeeded: bool) -> None:
        self._run.finish()
