"""What a run writes beside its weights: the report as data and for people, the recipe, what was said of each example.

The texts for people are made of the rest, so that they can be made again from a folder: `documents`.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from compressit import data, recipe, tasks
from compressit import report as reports
from compressit.errors import CompressitError, IntegrityError
from compressit.outputs import TokenScores
from compressit.report import Report, flips, html, markdown
from compressit.report.flips import EXAMPLES
from compressit.report.shown import Shown

if TYPE_CHECKING:
    from datasets import Dataset

    from compressit.metrics import Evidence

RECIPE = "recipe.yaml"


def documents(shown: Shown) -> dict[str, str]:
    """Make every text for people, by its path below the run's folder."""
    cards = {
        f"{artifact.path}/README.md": markdown.card(shown.report, artifact.name, shown.model, shown.recipe)
        for artifact in shown.report.artifacts
    }
    return {"report.md": markdown.document(shown.report), "report.html": html.page([shown]), **cards}


def read(folder: Path, name: str | None = None) -> Shown:
    """Read what the texts of a finished run are made of, and its examples where they are.

    Args:
        folder: Of the run.
        name: What it goes by (default: the recipe's name).

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
    rows, why = _rows(folder, found)
    artifacts = [artifact.name for artifact in found.artifacts]
    changed = flips.read(folder, found.task, artifacts, rows)
    return Shown(
        name or found.name, found, document.text, str(path or ""), changed, _textless(found.task, changed, why)
    )


def sources(folder: Path) -> set[str]:
    """Name the files of a run that `read` reads."""
    found = reports.read(folder)
    kept = [name.relative_to(folder).as_posix() for name in folder.glob(f"{EXAMPLES}/*.npz")]
    configs = ["checkpoint/config.json"] if kept else []
    return {reports.FILE, RECIPE, *(f"{artifact.path}/{RECIPE}" for artifact in found.artifacts), *configs, *kept}


def write(
    folder: Path,
    found: Report,
    run: recipe.Recipe,
    base: Path,
    overrides: tuple[str, ...],
    said: Mapping[str, Evidence],
    rows: Dataset | None,
) -> None:
    """Write the report, the recipe as run, what is for people, and what each artifact said of each example.

    Args:
        folder: Of the run; each artifact's own folder is there.
        found: The report.
        run: The recipe.
        base: Folder that its relative paths start from.
        overrides: The `--set` arguments it was run with.
        said: By name, what was measured of the original and of each artifact.
        rows: The evaluation examples.
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
    changed = flips.read(folder, found.task, [artifact.name for artifact in found.artifacts], rows)
    shown = Shown(found.name, found, as_run, run.model.path, changed, _textless(found.task, changed, ""))
    for name, text in documents(shown).items():
        (folder / name).write_text(text, encoding="utf-8")


def _rows(folder: Path, found: Report) -> tuple[Dataset | None, str]:
    """Read the evaluation examples again as the recipe says; or why that can't be."""
    try:
        run = recipe.load(folder / RECIPE)
        if run.recipe.dataset is None:
            return None, ""
        labels = dict(enumerate(flips.names(folder / "checkpoint")))
        split = run.recipe.dataset.evaluation
        return data.rows(run.recipe.dataset, split, found.task, labels, run.base), ""
    except CompressitError as error:
        return None, f"the data can't be read again: {error.message}"


def _textless(task: str, changed: tuple[flips.Flips, ...], why: str) -> str:
    """Say why examples have no text, where some have none."""
    if all(flip.text is not None for each in changed for flip in each.worst):
        return ""
    if issubclass(tasks.load(task).OUTPUT, TokenScores):
        return "an example is a window of tokens, and what it says isn't kept"
    return why or "an example without a text is not text, or not in the data any more"
