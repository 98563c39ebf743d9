"""What a run writes beside its weights: the report as data and for people, the recipe, what was said of each example.

The texts for people are made of the rest, so that they can be made again from a folder: `documents`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from compressit import data, recipe
from compressit import report as reports
from compressit.errors import CompressitError
from compressit.report import Report, flips, html, kept, markdown
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
    document = recipe.read(folder / found.artifacts[0].path / RECIPE)
    model = document.tree.get("model") if isinstance(document.tree, dict) else None
    path = model.get("path") if isinstance(model, dict) else model
    row_of, why = _examples(folder, found)
    changed = flips.read(folder, found.task, [artifact.name for artifact in found.artifacts], row_of)
    return Shown(name or found.name, found, document.text, str(path or ""), changed, _textless(changed, why))


def sources(folder: Path) -> set[str]:
    """Name the files of a run that `read` reads."""
    found = reports.read(folder)
    said = [name.relative_to(folder).as_posix() for name in folder.glob(f"{kept.EXAMPLES}/*.npz")]
    configs = ["checkpoint/config.json"] if said else []
    return {reports.FILE, RECIPE, *(f"{artifact.path}/{RECIPE}" for artifact in found.artifacts), *configs, *said}


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
        kept.write(folder, {name: evidence.predictions for name, evidence in said.items()})
    row_of, why = _found(lambda: rows, run.dataset, found.task, folder)
    changed = flips.read(folder, found.task, [artifact.name for artifact in found.artifacts], row_of)
    shown = Shown(found.name, found, as_run, run.model.path, changed, _textless(changed, why))
    for name, text in documents(shown).items():
        (folder / name).write_text(text, encoding="utf-8")


def _examples(folder: Path, found: Report) -> tuple[flips.Rows, str]:
    """Read the evaluation examples again as the recipe says; or say why that can't be."""
    try:
        run = recipe.load(folder / RECIPE)
    except CompressitError as error:
        return _nothing, f"the recipe can't be read: {error.message}"
    spec = run.recipe.dataset

    def rows() -> Dataset | None:
        labels = dict(enumerate(flips.names(folder / "checkpoint")))
        return None if spec is None else data.rows(spec, spec.evaluation, found.task, labels, run.base)

    return _found(rows, spec, found.task, folder)


def _found(
    rows: Callable[[], Dataset | None], spec: data.DatasetSpec | None, task: str, folder: Path
) -> tuple[flips.Rows, str]:
    try:
        there = rows()
        if there is None or spec is None:
            return _nothing, ""
        return flips.lookup(there, spec, task, folder / "checkpoint"), ""
    except CompressitError as error:
        return _nothing, f"the data can't be read again: {error.message}"


def _nothing(example: int) -> None:
    """Find no example."""


def _textless(changed: Sequence[flips.Flips], why: str) -> str:
    """Say why examples have neither text nor picture, where some have none."""
    if all(flip.text is not None or flip.picture is not None for each in changed for flip in each.worst):
        return ""
    return why or "an example without a text is neither text nor image, or not in the data any more"
