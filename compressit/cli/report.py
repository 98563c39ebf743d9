"""`compressit report`: what is for people of a finished run, made again from what is on disk."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from compressit.cli.options import Folder

if TYPE_CHECKING:
    from compressit.report.shown import Shown


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
) -> None:
    """Write report.html, report.md and the model cards of a run again, from its figures, recipe and examples."""
    from compressit import store
    from compressit.cli.console import say
    from compressit.errors import RecipeError
    from compressit.progress import quiet
    from compressit.report import files
    from compressit.report.html import page

    if not folder.is_dir():
        raise RecipeError(f"there is no folder {folder}")
    store.check(folder, files.sources(folder))
    with quiet():
        shown = files.read(folder)
    if shown.textless:
        say(f"examples are shown without their text: {shown.textless}")
    if track:
        _send(shown, folder, track)
        return
    if html is None:
        texts = files.documents(shown)
        store.amend(folder, texts)
        say(f"{folder}: wrote {', '.join(texts)}")
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
