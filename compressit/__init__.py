"""compressit: compress a Hugging Face model through one YAML recipe, and prove it."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from compressit.model import Model
    from compressit.report import Report

__all__ = ["__version__", "apply", "load"]


def apply(
    recipe: str | Path,
    output: str | Path | None = None,
    *,
    overrides: tuple[str, ...] = (),
    device: str = "auto",
    overwrite: bool = False,
    fresh: bool = False,
    trust_remote_code: bool = False,
    waterfall: bool = True,
) -> Report:
    """Apply a recipe and publish the result.

    Args:
        recipe: Path of a recipe file.
        output: Folder of the result, or a URL such as s3://BUCKET/FOLDER (default: `runs/NAME`).
        overrides: Like `--set`: "path.to.field=value".
        device: "auto", "cpu" or "cuda".
        overwrite: Replace an earlier result.
        fresh: Use no step that is kept from before, nor what a killed run has left.
        trust_remote_code: Run Python code that the model's repository holds.
        waterfall: Measure after each step, too, to say what each gained.

    Returns:
        The report; its `exit_code` says whether the targets were met.

    Raises:
        compressit.errors.CompressitError: the recipe is wrong, or something failed; nothing is published then.
    """
    from compressit import plan, ranks, runner, store
    from compressit import recipe as recipes
    from compressit.errors import RecipeError

    if ranks.count() > 1:
        raise RecipeError("several processes were started", hint="have the launcher start `-m compressit apply RECIPE`")
    written = recipes.load(recipe, overrides)
    return runner.run(
        plan.plan(written),
        store.place(output if output is not None else Path("runs") / written.recipe.name),
        device=device,
        overwrite=overwrite,
        fresh=fresh,
        trust_remote_code=trust_remote_code,
        waterfall=waterfall,
    )


def load(folder: str | Path, *, device: str = "cpu") -> Model:
    """Open a result of compressit, or the checkpoint in it.

    Args:
        folder: A run folder, or its `checkpoint`.
        device: Where to put the model.

    Returns:
        Model with `module` (the transformers model, in eval mode), `processor` and `task`.

    Raises:
        compressit.errors.IntegrityError: the folder is not a result of compressit, or its files changed.
    """
    from compressit import model, report, store
    from compressit.errors import RecipeError

    place = Path(folder)
    if place.name == "checkpoint" and (place.parent / report.FILE).is_file():
        place = place.parent
    if not place.is_dir():
        raise RecipeError(f"there is no folder {place}")
    store.check(place)
    return model.load(place / "checkpoint", report.read(place).task, device=device)


def __getattr__(name: str) -> Any:
    if name == "__version__":
        from importlib.metadata import version

        return version("compressit")
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
