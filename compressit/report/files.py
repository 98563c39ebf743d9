"""What a run writes beside its weights: the report as data and for people, the recipe, what was said of each example.

The texts for people are made of the rest, so that they can be made again from a folder: `documents`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from compressit import recipe
from compressit import report as reports
from compressit.errors import IntegrityError
from compressit.metrics import Evidence
from compressit.report import Report, markdown

RECIPE, EXAMPLES = "recipe.yaml", "examples"


@dataclass(frozen=True)
class Told:
    """What the texts for people are made of.

    Attributes:
        recipe: Text of the recipe as run.
        model: Path of the original, as that recipe has it.
    """

    report: Report
    recipe: str
    model: str


def documents(told: Told) -> dict[str, str]:
    """Make every text for people, by its path below the run's folder."""
    cards = {
        f"{artifact.path}/README.md": markdown.card(told.report, artifact.name, told.model, told.recipe)
        for artifact in told.report.artifacts
    }
    return {"report.md": markdown.document(told.report), **cards}


def read(folder: Path) -> Told:
    """Read what the texts of a finished run are made of.

    Raises:
        IntegrityError: it isn't there, or this version can't read it.
        RecipeError: the recipe can't be read.
    """
    found = reports.read(folder)
    if not found.artifacts:
        raise IntegrityError(f"{folder / reports.FILE} tells of no artifact")
    document = recipe.read(folder / found.artifacts[0].path / RECIPE)
    model = document.tree.get("model") if isinstance(document.tree, dict) else None
    path = model.get("path") if isinstance(model, dict) else model
    return Told(found, document.text, str(path or ""))


def sources(folder: Path) -> set[str]:
    """Name the files of a run that `read` reads."""
    found = reports.read(folder)
    return {reports.FILE, RECIPE, *(f"{artifact.path}/{RECIPE}" for artifact in found.artifacts)}


def write(
    folder: Path,
    found: Report,
    run: recipe.Recipe,
    base: Path,
    overrides: tuple[str, ...],
    said: Mapping[str, Evidence],
) -> None:
    """Write the report, the recipe as run, the model cards, and what each artifact said of each example.

    Args:
        folder: Of the run; each artifact's own folder is there.
        found: The report.
        run: The recipe.
        base: Folder that its relative paths start from.
        overrides: The `--set` arguments it was run with.
        said: By name, what was measured of the original and of each artifact.
    """
    import numpy as np

    comment = (
        f"As run by compressit {found.provenance.versions.get('compressit', '')}, recipe SHA-256 "
        f"{found.provenance.recipe_sha256}." + "".join(f"\n--set {item}" for item in overrides)
    )
    as_run = recipe.text(run, comment)
    reports.write(found, folder)
    (folder / RECIPE).write_text(recipe.text(recipe.anchored(run, base), comment), encoding="utf-8")
    for artifact in found.artifacts:
        (folder / artifact.path / RECIPE).write_text(as_run, encoding="utf-8")
    if run.dataset is not None:
        (folder / EXAMPLES).mkdir()
        for name, evidence in said.items():
            np.savez(folder / EXAMPLES / f"{name}.npz", allow_pickle=False, **evidence.predictions.arrays())
    for name, text in documents(Told(found, as_run, run.model.path)).items():
        (folder / name).write_text(text, encoding="utf-8")
