"""`compressit search`: fill in what a recipe leaves open, by what a tuning split says; then apply what was chosen."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from compressit.cli.options import Device, Json, Overwrite, Quiet, RecipeFile, Set, Trust, here, seconds
from compressit.errors import ExitCode

if TYPE_CHECKING:
    from compressit.recipe import Open, Written
    from compressit.report import Report
    from compressit.search import Found

CHOSEN = "chosen.yaml"
TRIALS = 40
SHOWN = 12
"""Trials that the terminal shows."""


def search(
    recipe: RecipeFile,
    trials: Annotated[
        int | None, typer.Option(min=1, help=f"Trials in all (default: {TRIALS}, or no limit with --hours).")
    ] = None,
    hours: Annotated[float | None, typer.Option(min=0, help="Begin no trial after so long.")] = None,
    timeout: Annotated[
        str | None, typer.Option(help="Limit for each trial, which has failed then: 90 (seconds), 30m or 2h.")
    ] = None,
    jobs: Annotated[
        int,
        typer.Option(min=1, help="Trials at the same time, each with its own GPU; timings then disturb each other."),
    ] = 1,
    auto: Annotated[
        bool,
        typer.Option("--auto", help="Turn the steps of a recipe that leaves nothing open until its targets hold."),
    ] = False,
    tuning: Annotated[
        str | None,
        typer.Option(
            help="Split that trials are judged on: rows that neither the model nor a step has learned from (default: "
            "the recipe's; with --auto, where it names none, half of its evaluation split).",
            metavar="SPLIT",
        ),
    ] = None,
    output: Annotated[
        Path | None,
        typer.Option(
            "-o", "--output", help="Folder of the result (default: runs/NAME); trials lie beside it.", callback=here
        ),
    ] = None,
    set_: Set = None,
    device: Device = "auto",
    overwrite: Overwrite = False,
    fresh: Annotated[bool, typer.Option("--fresh", help="Forget the trials that an earlier search has made.")] = False,
    trust_remote_code: Trust = False,
    json: Json = False,
    quiet: Quiet = False,
) -> int:
    """Search for the recipe that is best among those that meet every target, and apply it."""
    from compressit import recipe as recipes
    from compressit import search as searching
    from compressit.cli import console
    from compressit.errors import RecipeError
    from compressit.jobs import shares

    if auto and (hours is not None or jobs > 1):
        hint = "bound it by --trials"
        raise RecipeError("--auto makes one trial after the other, each by what the last has shown", hint=hint)
    most = seconds(timeout)
    opened = recipes.load_open(recipe, tuple(set_ or ()))
    found = searching.tuned(opened, tuning, halve=auto)
    base = searching.check(found)
    target = output or Path("runs") / base.recipe.name
    folder = target.with_name(f"{target.name}.search")
    progress = console.progress(quiet=quiet)
    _check_target(target, overwrite=overwrite)
    if fresh:
        searching.forget(folder)
    if tuning is None and found is not opened:
        _tell_halves(base, progress)
    searching.tell_splits(base, progress, trust=trust_remote_code)
    flags = ("--device", device, *(("--trust-remote-code",) if trust_remote_code else ()))
    place = searching.Place(folder, flags, most)
    limit = trials if trials is not None or hours is not None else TRIALS
    if auto:
        done = searching.meet(found, place, limit or TRIALS, progress)
    else:
        # One at a time has the whole machine, as the run of what is chosen.
        own = shares.share(jobs, progress.say, gpus=0 if device == "cpu" else None) if jobs > 1 else [{}]
        done = searching.search(found, place, searching.Budget(limit, hours, tuple(own)), progress)
    taken = done.nearest if done.chosen is None else done.chosen
    if taken is None:
        console.say(f"every trial died; their logs lie in {folder}")
        return ExitCode.FAILED
    if done.chosen is None:
        if json:
            console.data(done.record().model_dump_json())
        else:
            _tell_nearest(done, folder)
        return ExitCode.TARGET_MISSED
    for each in done.front:
        _write(found, done, each, folder / f"front-{each + 1:04d}.yaml")
    chosen = _write(found, done, taken, folder / CHOSEN)
    progress.say(f"trial {taken + 1} is taken, {folder / CHOSEN}: judged on the evaluation split, once")
    report = _applied(chosen, target, device, overwrite=overwrite, trust=trust_remote_code, progress=progress)
    report = _amended(target, report, done)
    if json:
        console.data(report.model_dump_json())
    elif not quiet:
        _show(report, target, folder)
    return int(report.exit_code)


def _tell_halves(written: Written, progress: Any) -> None:
    run = written.recipe
    assert run.dataset is not None, "checked"
    assert run.search is not None, "checked"
    progress.say(
        f"the recipe names no tuning split: {run.search.tuning} judges the trials, {run.dataset.evaluation} what is "
        "chosen; --tuning SPLIT keeps the evaluation split whole"
    )


def _check_target(target: Path, *, overwrite: bool) -> None:
    """Refuse what can't be replaced before any work; what a search has put there may be what it finds again."""
    from compressit import report as reports
    from compressit import store
    from compressit.errors import CompressitError

    try:
        if not overwrite and reports.read(target).search is not None:
            return
    except CompressitError:
        pass
    store.check_target(target, overwrite=overwrite)


def _write(found: Open, done: Found, place: int, file: Path) -> Written:
    """Write what a trial was as an ordinary recipe, which is judged on the evaluation split."""
    from compressit import recipe as recipes
    from compressit import search as searching
    from compressit import store

    written = searching.set_to(found, done.tried[place].settings)
    many = f"trial {place + 1} of {len(done.tried)}, judged on {done.split}"
    text = recipes.text(recipes.anchored(written.recipe, written.base), f"Found by compressit search: {many}.")
    with store.written(file, overwrite=True) as stream:
        stream.write(text)
    return written


def _applied(written: Written, target: Path, device: str, *, overwrite: bool, trust: bool, progress: Any) -> Report:
    """Apply the chosen recipe, unless its result is there already."""
    from compressit import plan, runner, store
    from compressit import recipe as recipes
    from compressit import report as reports

    if target.is_dir() and store.manifest(target).get("recipe_sha256") == recipes.digest(written.recipe):
        progress.say(f"{target} is the result of this recipe already")
        return reports.read(target)
    store.check_target(target, overwrite=overwrite)
    planned = plan.plan(written)
    return runner.run(planned, target, device=device, overwrite=overwrite, trust_remote_code=trust, progress=progress)


def _amended(target: Path, report: Report, done: Found) -> Report:
    """Put the trials into the report."""
    from dataclasses import replace

    from compressit import store
    from compressit.progress import quiet
    from compressit.report import FILE, files

    found = report.model_copy(update={"search": done.record()})
    if found == report:
        return report
    with quiet():
        shown = replace(files.read(target), report=found)
    store.amend(target, {FILE: found.model_dump_json(indent=1) + "\n", **files.documents(shown)})
    return found


def _show(report: Report, target: Path, folder: Path) -> None:
    from compressit.cli import apply, console
    from compressit.report import tables

    assert report.search is not None, "amended"
    head, rows = tables.trials(report)
    console.say(f"what the search tried: {tables.searched(report.search)}")
    console.table(rows[:SHOWN], head)
    if len(rows) > SHOWN:
        console.say(f"the first {SHOWN} of {len(rows)}; report.html has all")
    apply.show(report, target)
    console.say(f"the chosen recipe: {folder / CHOSEN}")


def _tell_nearest(done: Found, folder: Path) -> None:
    """Say which targets can't be met, and how near the search came."""
    from compressit import search as searching
    from compressit.cli import console

    assert done.nearest is not None, "asked before"
    console.say(f"no trial of {len(done.tried)} meets every target on {done.split}")
    for line in searching.missed(done):
        console.say(line)
    console.say(f"nothing was judged on the evaluation split; what was tried lies in {folder}")
