"""`compressit apply`: recipe in, smaller model and report out; the exit code says whether the targets were met."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from compressit.cli.options import Device, Json, Overwrite, Quiet, RecipeFile, Set, Track, Trust, Waterfall

if TYPE_CHECKING:
    from compressit.report import Report
    from compressit.store import Remote


def apply(
    recipe: RecipeFile,
    output: Annotated[
        str | None,
        typer.Option(
            "-o",
            "--output",
            help="Folder of the result, or a URL such as s3://BUCKET/FOLDER (default: runs/NAME).",
            metavar="DIR|URL",
        ),
    ] = None,
    set_: Set = None,
    device: Device = "auto",
    overwrite: Overwrite = False,
    fresh: Annotated[
        bool, typer.Option("--fresh", help="Start over: use no finished step, nor what a killed run left.")
    ] = False,
    trust_remote_code: Trust = False,
    waterfall: Waterfall = True,
    track: Track = None,
    json: Json = False,
    quiet: Quiet = False,
) -> int:
    """Compress the model, save it, measure what was saved, and judge it against the targets."""
    from compressit import plan, ranks, runner, store, tracking
    from compressit import recipe as recipes
    from compressit.cli import console

    if ranks.left_alone():
        console.tell(
            "warning: accelerate started one process only; with --multi_gpu it starts several, without GPUs too"
        )
    written = recipes.load(recipe, tuple(set_ or ()))
    target = store.place(output or Path("runs") / written.recipe.name)
    store.check_target(target, overwrite=overwrite)
    planned = plan.plan(written)
    with tracking.follow(track or (), written.recipe, target, console.progress(quiet=quiet)) as followed:
        report = runner.run(
            planned,
            target,
            device=device,
            overwrite=overwrite,
            fresh=fresh,
            trust_remote_code=trust_remote_code,
            waterfall=waterfall,
            progress=followed,
        )
        followed.report(report)
    if json:
        console.data(report.model_dump_json())
    elif not quiet:
        show(report, target)
    return int(report.exit_code)


def show(report: Report, folder: Path | Remote) -> None:
    """Print the report's tables and where everything is."""
    from compressit.cli import console
    from compressit.errors import MEANING
    from compressit.report import tables

    head, rows = tables.figures(report)
    console.table(rows, head)
    for artifact in report.artifacts:
        if artifact.runtime_ratio:
            console.say(f"{artifact.name}: {tables.gains(artifact)}")
    if len(report.steps) + len(report.artifacts) > 2 and tables.measured_by_stage(report):
        head, rows = tables.waterfall(report)
        console.table(rows, head)
    for line in (
        *(said for artifact in report.artifacts for said in tables.unopened(artifact)),
        *tables.reservations(report),
        *tables.idle(report),
    ):
        console.say(line)
    if report.verdicts:
        console.table(tables.targets(report), ["", "target", "artifact", "measured"])
    console.say(tables.headline(report.artifacts[-1]))
    console.say(
        f"saved in {folder}: report.html, report.md, " + ", ".join(f"{artifact.path}/" for artifact in report.artifacts)
    )
    if report.exit_code:
        console.say(f"exit {int(report.exit_code)}: {MEANING[report.exit_code]}")
