"""`compressit report`: what is for people of a finished run, made again from what is on disk."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from compressit.cli.options import Device, Folder, Quiet, Trust

if TYPE_CHECKING:
    from collections.abc import Mapping

    from compressit.report.shown import Shown

SHOWN = 10
"""Parts that the terminal shows with what they cost."""


def report(
    folder: Folder,
    html: Annotated[
        Path | None, typer.Option("--html", help="Write the page to this file instead, and leave the folder alone.")
    ] = None,
    track: Annotated[
        list[str] | None,
        typer.Option(
            "--track", help="Send the report to this tracker instead, and leave the folder alone.", metavar="NAME"
        ),
    ] = None,
    sensitivity: Annotated[
        bool,
        typer.Option("--sensitivity", help="Measure first what each part costs: a pass over some rows for each."),
    ] = False,
    rows: Annotated[int, typer.Option(min=1, help="Rows for that, of the calibration or the evaluation split.")] = 64,
    device: Device = "auto",
    trust_remote_code: Trust = False,
    quiet: Quiet = False,
) -> None:
    """Write report.html, report.md and the model cards of a run again, from its figures, recipe and examples."""
    from compressit import store
    from compressit.cli import console
    from compressit.errors import RecipeError
    from compressit.progress import quiet as silently
    from compressit.report import FILE, files
    from compressit.report.html import page
    from compressit.serving import finished

    if not folder.is_dir():
        raise RecipeError(f"there is no folder {folder}")
    if html is not None:
        finished.check_outside(html)
    store.check(folder, files.sources(folder))
    with silently():
        shown = files.read(folder)
    if sensitivity:
        shown = _measured(folder, shown, rows, device, _elsewhere(html, track), trust=trust_remote_code, quiet=quiet)
    say = console.say if not quiet else lambda text: None
    if shown.textless:
        say(f"examples are shown without their text: {shown.textless}")
    if track:
        _send(shown, folder, track)
        return
    if html is None:
        texts = files.documents(shown)
        data = {FILE: shown.report.model_dump_json(indent=1) + "\n"} if sensitivity else {}
        store.amend(folder, {**data, **texts})
        say(f"{folder}: wrote {', '.join({**data, **texts})}")
        return
    try:
        html.write_text(page([shown]), encoding="utf-8")
    except OSError as error:
        raise RecipeError(f"can't write {html}: {error.strerror or error}") from error
    say(f"wrote {html}")


def _send(shown: Shown, folder: Path, track: list[str]) -> None:
    """Send the report as a run does that is followed; here an outage fails, for nothing else was asked for."""
    from compressit import recipe, tracking
    from compressit.cli.console import progress
    from compressit.errors import RetryableError
    from compressit.report import files

    run = recipe.load(folder / files.RECIPE).recipe
    with tracking.follow(track, run, folder, progress(quiet=False)) as followed:
        followed.report(shown.report, files.documents(shown))
    if followed.lost:
        raise RetryableError(f"not sent to {' and '.join(followed.lost)}")


def _elsewhere(html: Path | None, track: list[str] | None) -> dict[str, int]:
    """Say how many parts are listed in what is written."""
    from compressit.report import markdown
    from compressit.report.html import layers

    if track:
        return {}
    return {str(html): layers.ROWS} if html else {"report.md": markdown.PARTS}


def _measured(
    folder: Path, shown: Shown, rows: int, device: str, written: Mapping[str, int], *, trust: bool, quiet: bool
) -> Shown:
    """Add what each part costs to the report; `written` says how many parts each file will list."""
    from dataclasses import replace

    from compressit.cli import console
    from compressit.report import tables
    from compressit.serving import finished
    from compressit.serving import sensitivity as measuring

    wanted = measuring.Wanted(rows=rows, device=device, trust_remote_code=trust)
    run = finished.opened(folder, measuring.sources(folder))
    found = measuring.measure(run, wanted, console.progress(quiet=quiet))
    if not quiet:
        head, lines = tables.sensitivity(found, run.report.layers)
        console.say(f"what each part costs by itself, {tables.asked_of(found)}")
        console.table(lines[:SHOWN], head)
        if len(lines) > SHOWN:
            rest = [f"{name} has {'all' if most >= len(lines) else f'{most:,}'}" for name, most in written.items()]
            console.say("; ".join([f"the {SHOWN} that cost most of {len(lines):,}", *rest]))
    return replace(shown, report=shown.report.model_copy(update={"sensitivity": found}))
