"""Finished runs, opened again: their reports, recipes, and what each artifact said of each example."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from compressit import rules
from compressit.compare import Side
from compressit.errors import RecipeError
from compressit.metrics import Evidence, MetricConfig
from compressit.report import Artifact, kept
from compressit.runtimes import Facts
from compressit.serving.finished import Finished, opened


@dataclass(frozen=True)
class Run:
    """A finished run beside others.

    Attributes:
        name: What it goes by here.
        artifact: The one that is compared.
        metrics: As its recipe configures them, by the name that targets call them.
    """

    name: str
    finished: Finished
    artifact: Artifact
    metrics: dict[str, MetricConfig]

    @property
    def side(self) -> Side:
        """Say which run and artifact this is."""
        report = self.finished.report
        return Side(
            name=self.name,
            source=str(self.finished.folder),
            recipe=report.name,
            recipe_sha256=report.provenance.recipe_sha256,
            artifact=self.artifact.name,
            runtime=self.artifact.runtime,
            seed=report.provenance.seed,
        )

    def evidence(self) -> Evidence:
        """Read back what was measured of the artifact; its timings are not kept, for they need a neighbour."""
        own, folder, task = self.artifact, self.finished.folder, self.finished.report.task
        memory = next((each.value for each in own.readings if self.metrics[each.metric].metric == "peak_memory"), None)
        facts = Facts(own.bytes, own.parameters, own.nonzero, own.dtypes)
        said, original = kept.said(folder, task, own.name), kept.said(folder, task, kept.ORIGINAL)
        return Evidence(facts, said, original, {}, int(memory or 0))


def open_all(folders: Sequence[Path], artifact: str | None = None) -> list[Run]:
    """Open runs and check that their files are as they were saved.

    Args:
        folders: Of the runs.
        artifact: Which artifact is compared (default: each run's last).

    Raises:
        IntegrityError: a folder holds no finished result, or one that was changed.
        RecipeError: there is no such folder, or no such artifact in it.
    """
    return [_open(folder, name, artifact) for folder, name in zip(folders, _names(folders), strict=True)]


def _open(folder: Path, name: str, wanted: str | None) -> Run:
    found = opened(folder)
    configs = {config.key: config for config in rules.measured(found.recipe)}
    return Run(name, found, found.artifact(wanted), configs)


def _names(folders: Sequence[Path]) -> list[str]:
    """Call each folder by its name, or by its path where two have the same."""
    short = [folder.resolve().name for folder in folders]
    names = [name if short.count(name) == 1 else str(folder) for name, folder in zip(short, folders, strict=True)]
    twice = next((name for name in names if names.count(name) > 1), None)
    if twice is not None:
        raise RecipeError(f"{twice} is named twice", hint="a run is compared with others, not with itself")
    return names
