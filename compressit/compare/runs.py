"""Finished runs, opened again: their reports, recipes, and what each artifact said of each example."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from compressit import recipe as recipes
from compressit import report as reports
from compressit import rules, store, tasks
from compressit.compare import Side
from compressit.errors import IntegrityError, RecipeError
from compressit.metrics import Evidence, MetricConfig, Output
from compressit.recipe import Written
from compressit.registry import suggest
from compressit.report import Artifact, Report
from compressit.runtimes import Facts


@dataclass(frozen=True)
class Run:
    """A finished run on disk.

    Attributes:
        name: What it goes by beside others.
        artifact: The one that is compared.
        metrics: As its recipe configures them, by the name that targets call them.
    """

    name: str
    folder: Path
    report: Report
    written: Written
    artifact: Artifact
    metrics: dict[str, MetricConfig]

    @property
    def side(self) -> Side:
        """Say which run and artifact this is."""
        return Side(
            name=self.name,
            source=str(self.folder),
            recipe=self.report.name,
            recipe_sha256=self.report.provenance.recipe_sha256,
            artifact=self.artifact.name,
            runtime=self.artifact.runtime,
            seed=self.report.provenance.seed,
        )

    def evidence(self) -> Evidence:
        """Read back what was measured of the artifact; its timings are not kept, for they need a neighbour."""
        kept = self.artifact
        memory = next((each.value for each in kept.readings if self.metrics[each.metric].metric == "peak_memory"), None)
        facts = Facts(kept.bytes, kept.parameters, kept.nonzero, kept.dtypes)
        return Evidence(facts, self._said(kept.name), self._said("original"), {}, int(memory or 0))

    def _said(self, name: str) -> Output:
        kind, file = tasks.load(self.report.task).OUTPUT, self.folder / "examples" / f"{name}.npz"
        if self.written.recipe.dataset is None:
            empty: Output = kind.empty()
            return empty
        try:
            with np.load(file, allow_pickle=False) as arrays:
                said: Output = kind(**dict(arrays))
        except (OSError, ValueError, TypeError) as error:
            raise IntegrityError(f"{file} can't be read: {error}") from error
        return said


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
    if not folder.is_dir():
        raise RecipeError(f"there is no folder {folder}", hint="name the folder of a finished run, or a recipe file")
    store.check(folder)
    found, written = reports.read(folder), recipes.load(folder / "recipe.yaml")
    known = [artifact.name for artifact in found.artifacts]
    if wanted is not None and wanted not in known:
        raise RecipeError(f"{folder} has no artifact {wanted!r}{suggest(wanted, known)}; it has {', '.join(known)}")
    artifact = found.artifacts[known.index(wanted) if wanted else -1]
    configs = {config.key: config for config in rules.measured(written.recipe)}
    return Run(name, folder, found, written, artifact, configs)


def _names(folders: Sequence[Path]) -> list[str]:
    """Call each folder by its name, or by its path where two have the same."""
    short = [folder.resolve().name for folder in folders]
    names = [name if short.count(name) == 1 else str(folder) for name, folder in zip(short, folders, strict=True)]
    twice = next((name for name in names if names.count(name) > 1), None)
    if twice is not None:
        raise RecipeError(f"{twice} is named twice", hint="a run is compared with others, not with itself")
    return names
