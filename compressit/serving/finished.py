"""A finished run, checked against its manifest, and the artifacts in it."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from pathlib import Path

from compressit import recipe, rules, runtimes, store
from compressit import report as reports
from compressit.errors import IntegrityError, RecipeError
from compressit.measure import Subject
from compressit.recipe import Recipe
from compressit.registry import suggest
from compressit.report import Artifact, Report
from compressit.report.files import RECIPE


@dataclass(frozen=True)
class Finished:
    """A finished run.

    Attributes:
        recipe: As it was run, with absolute paths.
    """

    folder: Path
    report: Report
    recipe: Recipe

    @property
    def name(self) -> str:
        """What people call it: its folder's name."""
        return self.folder.resolve().name

    def artifact(self, name: str | None = None) -> Artifact:
        """Find an artifact by name; the last one made without.

        Raises:
            RecipeError: there is none of that name.
        """
        names = [artifact.name for artifact in self.report.artifacts]
        if name is not None and name not in names:
            raise RecipeError(f"{self.folder} has no artifact {name!r}{suggest(name, names)}")
        return self.report.artifacts[-1 if name is None else names.index(name)]

    def artifacts(self, names: Sequence[str]) -> list[Artifact]:
        """Find artifacts by name; all without any."""
        return [self.artifact(name) for name in names] if names else list(self.report.artifacts)

    def subject(self, artifact: Artifact, device: str) -> Subject:
        """Say where an artifact lies and what runs it where the user wants `device`, "cpu" or "cuda".

        Raises:
            MissingExtra: its runtime is not installed.
        """
        missing = runtimes.missing(artifact.runtime)
        if missing is not None:
            raise missing
        place = runtimes.load(artifact.runtime).place(device)
        return Subject(str((self.folder / artifact.path).resolve()), artifact.runtime, place)


def opened(folder: Path, names: Collection[str] | None = None) -> Finished:
    """Open the folder of a finished run.

    Args:
        folder: Of the run.
        names: Files to check against the manifest (default: all of them).

    Raises:
        RecipeError: there is no such folder.
        IntegrityError: it is not a result of compressit, or its files changed or don't belong together.
        UnsafeError: its report leads out of the folder.
    """
    if not folder.is_dir():
        raise RecipeError(f"there is no folder {folder}")
    store.check(folder, names)
    found = reports.read(folder)
    if not (folder / RECIPE).is_file():
        raise IntegrityError(f"{folder} holds no {RECIPE}: not a whole result of compressit")
    run = recipe.load(folder / RECIPE).recipe
    measured = {reading.metric for artifact in found.artifacts for reading in artifact.readings}
    strange = sorted(measured - {config.key for config in rules.measured(run)})
    if strange or run.task != found.task:
        what = f"measures {', '.join(strange)}" if strange else f"is about {found.task}"
        raise IntegrityError(f"{folder / reports.FILE} {what}, and {RECIPE} beside it does not")
    return Finished(folder, found, run)


def check_outside(file: Path) -> None:
    """Refuse to write a file of somebody's own into a result, which it would spoil: `verify` knows all of its files.

    Raises:
        RecipeError: the file would lie in one.
    """
    for folder in file.resolve().parents:
        try:
            store.manifest(folder)
        except (IntegrityError, OSError):
            continue
        raise RecipeError(f"{file} would lie in {folder}, a result, whose files are all known", hint="write elsewhere")
