"""`compressit batch`: many recipes at once, here or on a cluster; and how they stand, what they say, and their end."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from typer.core import TyperGroup

from compressit.cli.options import Device, Json, Quiet, Set, Track, Trust, Waterfall, here, seconds
from compressit.errors import ExitCode

if TYPE_CHECKING:
    from compressit.batch import Standing, Task
    from compressit.batch.driving import Manner
    from compressit.engines import Needs
    from compressit.progress import Progress
    from compressit.store import Remote

EACH = 0.5
"""Seconds between two drawings of the table."""


class _Group(TyperGroup):
    """Takes what is no verb for recipes to be run."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Put the verb in front where it was left out."""
        if args and args[0] not in self.commands and args[0] not in ("-h", "--help"):
            args = ["run", *args]
        return super().parse_args(ctx, args)


verbs = typer.Typer(
    cls=_Group,
    help="Apply many recipes, here or on a cluster: compressit batch 'recipes/*.yaml' --on local:2.",
    no_args_is_help=True,
    rich_markup_mode=None,
)
Name = Annotated[str, typer.Argument(help="Name of the batch.", metavar="NAME")]
Names = Annotated[list[str] | None, typer.Argument(help="Jobs (default: all of them).", metavar="JOB...")]
Results = Annotated[Path, typer.Option("-o", "--output", help="Folder that the results go to.", callback=here)]
RESULTS = Path("runs")


@verbs.command()
def run(
    patterns: Annotated[list[str], typer.Argument(help="Recipes: files, or quoted patterns.", metavar="RECIPES...")],
    on: Annotated[str, typer.Option(help="Where: local:N, ray, ray+http://HEAD:8265, slurm.")] = "local",
    matrix: Annotated[
        list[str] | None,
        typer.Option(help="A job for each value: path.to.field=v1,v2; may be repeated, for all combinations."),
    ] = None,
    set_: Set = None,
    name: Annotated[str | None, typer.Option(help="Name of the batch (default: the recipes' folder or file).")] = None,
    output: Annotated[
        str,
        typer.Option("-o", "--output", help="Folder that the results go to, or its URL.", metavar="DIR|URL"),
    ] = str(RESULTS),
    timeout: Annotated[str | None, typer.Option(help="Limit for each job: 90 (seconds), 30m or 2h.")] = None,
    retries: Annotated[
        int, typer.Option(min=0, max=100, help="How often a job is tried again that died of something passing.")
    ] = 2,
    cpus: Annotated[
        int, typer.Option(min=1, help="Processor cores for each job, where a cluster shares them out.")
    ] = 1,
    gpus: Annotated[
        int | None, typer.Option(min=0, help="GPUs for each job (default: one where there are any; none on Slurm).")
    ] = None,
    device: Device = "auto",
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace what stands where a result goes.")] = False,
    failed_too: Annotated[
        bool,
        typer.Option("--retry-failed", help="Try again, too, what failed for good in an earlier run of the batch."),
    ] = False,
    trust_remote_code: Trust = False,
    waterfall: Waterfall = True,
    track: Track = None,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Show what would be done, or print the script for sbatch; start nothing.")
    ] = False,
    json: Json = False,
    quiet: Quiet = False,
) -> int:
    """Apply recipes, each in a process of its own; run again, it does what isn't done."""
    from compressit import batch, engines, ranks
    from compressit.batch import driving, expanding, standing
    from compressit.cli import console
    from compressit.engines import Needs

    files = expanding.files(patterns)
    limit = seconds(timeout)
    needs = Needs(cpus, gpus, limit)
    kind = engines.split(on)[0]
    _check_flags(device, track or ())
    results = _results(output)
    tasks = expanding.tasks(files, set_ or (), expanding.matrix(matrix or ()), results, elsewhere=kind != "local")
    standing.refuse(tasks, overwrite=overwrite)
    # What a batch knows of its jobs has to be changed in place, which no URL's place allows.
    folder = batch.place(results if isinstance(results, Path) else RESULTS, _batch_name(name, files))
    flags = ["--device", device, *(["--trust-remote-code"] if trust_remote_code else [])]
    flags += ["--waterfall" if waterfall else "--no-waterfall"]
    flags += [word for each in track or () for word in ("--track", each)]
    manner = driving.Manner(on, tuple(flags), overwrite, limit, retries, failed_too)
    if dry_run:
        return _foretell(folder, tasks, manner, needs)
    progress = console.progress(quiet=quiet)
    # A job is a run of its own, not one of the processes that a launcher may have started this one with.
    with driving.alone(folder), ranks.alone():
        engine = engines.open(on, needs, folder, progress.say)
        batch.write(folder, tasks, on)
        _warn(tasks, on, progress)
        progress.say(f"batch {folder.name}: {len(tasks)} jobs on {on}, kept in {folder}")
        with _table(progress, quiet=quiet) as show:
            stood = driving.drive(folder, tasks, engine, manner, show, progress.say)
        return _tell(folder, stood, progress, json=json, quiet=quiet)


@verbs.command()
def status(name: Name, output: Results = RESULTS, json: Json = False) -> int:
    """Say how each job stands; the exit code is that of the jobs that are over."""
    from compressit import batch
    from compressit.batch import driving, reporting, standing
    from compressit.cli import console

    folder = batch.place(output, name)
    tasks, on = batch.read(folder)
    stood = _asked(folder, on, [standing.now(folder, task) for task in tasks])
    if json:
        console.say(reporting.data(name, stood))
    else:
        console.table(reporting.rows(stood), reporting.HEAD)
        console.say(reporting.headline(stood))
        console.say(f"on {on}; {'a' if driving.busy(folder) else 'no'} process looks after it now")
    return int(reporting.exit_code(stood))


@verbs.command()
def logs(name: Name, jobs: Names = None, output: Results = RESULTS) -> None:
    """Print what jobs printed in their last try or, where they left nothing, what the engine has to say of them."""
    from compressit import batch, engines
    from compressit.batch import standing
    from compressit.cli import console
    from compressit.errors import CompressitError
    from compressit.jobs import LOG, attempt

    folder = batch.place(output, name)
    tasks, _ = batch.read(folder)
    for task in _chosen(tasks, jobs):
        made = batch.tries(folder, task)
        console.say(f"==> {task.name}: {standing.now(folder, task).state}, {len(made)} tries")
        files = (made[-1] / LOG, made[-1] / "worker.txt") if made else ()
        text = "".join(file.read_text(encoding="utf-8", errors="replace") for file in files if file.is_file())
        submitted = attempt.submitted(made[-1]) if made else None
        if not text and submitted is not None:
            try:
                text = engines.open(submitted[0], engines.Needs(gpus=0), folder, console.tell).logs(submitted[1])
            except CompressitError as error:
                text = f"{submitted[0]} can't be asked: {error.message}"
        for line in text.splitlines():
            console.say(line)


@verbs.command()
def cancel(name: Name, jobs: Names = None, output: Results = RESULTS) -> None:
    """End jobs that run, and take those that wait from the queue; the same batch run again takes them up."""
    from compressit import batch, engines
    from compressit.batch import standing
    from compressit.cli import console
    from compressit.errors import CompressitError

    folder = batch.place(output, name)
    tasks, _ = batch.read(folder)
    chosen = _chosen(tasks, jobs)
    told: list[Task] = []
    for task in chosen:
        if standing.now(folder, task).may_go_on:
            (batch.job(folder, task.name) / batch.CANCELLED).touch()
            told.append(task)
    for on, submissions in _under_way(folder, told).items():
        try:
            engine = engines.open(on, engines.Needs(gpus=0), folder, console.tell)
            for submission in submissions:
                engine.cancel(submission)
        except CompressitError as error:
            console.tell(f"warning: jobs are marked as cancelled, but {on} was not told: {error.message}")
    console.say(f"{len(told)} of {len(chosen)} jobs cancelled")


def _under_way(folder: Path, tasks: Sequence[Task]) -> dict[str, list[str]]:
    """Keep jobs from being begun that haven't been; give what engines call the others."""
    from compressit import batch
    from compressit.jobs import attempt

    found: dict[str, list[str]] = {}
    for task in tasks:
        made = batch.tries(folder, task)
        submitted = attempt.submitted(made[-1]) if made else None
        if submitted is None:
            continue
        # One that waits in a queue is taken from there, too, though it wouldn't begin.
        attempt.give_up(made[-1])
        begun = attempt.begun(made[-1])
        found.setdefault(submitted[0], []).append(begun.submission if begun and begun.submission else submitted[1])
    return found


def _results(output: str) -> Path | Remote:
    """Find the place that results go to."""
    from compressit import store
    from compressit.errors import RecipeError

    place = store.place(output)
    if isinstance(place, store.Remote) and store.address(place) != output.rstrip("/"):
        hint = "let the store's own settings hold them"
        raise RecipeError(f"{place}: a batch would write names and passwords of a URL down", hint=hint)
    return place


def _batch_name(given: str | None, files: Sequence[Path]) -> str:
    """Choose the batch's name: the recipe's file where it is one, or else the folder that holds the first."""
    import re

    from compressit.errors import RecipeError

    name = given or (files[0].stem if len(files) == 1 else files[0].resolve().parent.name or "batch")
    if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._-]{0,79}", name):
        raise RecipeError(
            f"{name!r} can't be the name of a batch", hint="--name NAME, of letters, digits, dots, dashes"
        )
    return name


def _check_flags(device: str, track: Sequence[str]) -> None:
    """Find out now what each job would find out by itself."""
    from compressit import tracking
    from compressit.errors import RecipeError

    if device not in ("auto", "cpu", "cuda"):
        raise RecipeError(f"--device {device}: expected auto, cpu or cuda")
    for name in track:
        tracking.check(name)


def _warn(tasks: Sequence[Task], on: str, progress: Progress) -> None:
    if on.startswith("local:") and on != "local:1" and any(task.timed for task in tasks):
        progress.say("warning: jobs that run side by side disturb each other's timings; --on local:1 doesn't")


def _foretell(folder: Path, tasks: Sequence[Task], manner: Manner, needs: Needs) -> int:
    """Say what would be done; for Slurm, lay out the jobs and print the script, as it stands ready for sbatch."""
    from compressit import batch, engines
    from compressit.batch import driving, standing
    from compressit.cli import console

    if engines.split(manner.on)[0] == "slurm":
        from compressit.engines import slurm

        with driving.alone(folder):
            batch.write(folder, tasks, manner.on)
            places = [str(place.absolute()) for place in driving.prepare(folder, tasks, manner)]
        console.say(slurm.script(places, needs, folder.absolute()) if places else "# nothing to do")
        return ExitCode.OK
    said = []
    for task in tasks:
        there = standing.result(task).kind is standing.Kind.OURS
        said.append([task.name, "done before" if there else "to do", str(task.output), task.source])
    console.table(said, ["job", "", "result", "from"])
    return ExitCode.OK


def _asked(folder: Path, on: str, stood: Sequence[Standing]) -> list[Standing]:
    """Ask an engine of jobs whose processes can't be seen from here."""
    from dataclasses import replace

    from compressit import batch, engines
    from compressit.cli import console
    from compressit.engines import Needs, Phase
    from compressit.errors import CompressitError
    from compressit.jobs import attempt

    names: dict[str, str] = {}
    for each in stood:
        made = batch.tries(folder, each.task)
        submitted = attempt.submitted(made[-1]) if made and each.may_go_on else None
        if submitted and engines.split(submitted[0])[0] != "local":
            begun = attempt.begun(made[-1])
            names[each.task.name] = begun.submission if begun and begun.submission else submitted[1]
    if not names:
        return list(stood)
    try:
        phases = engines.open(on, Needs(gpus=0), folder, lambda text: None).poll(names.values())
    except CompressitError as error:
        console.tell(f"warning: {on} can't be asked: {error.message}")
        return list(stood)
    found = []
    for each in stood:
        phase = phases[names[each.task.name]] if each.task.name in names else None
        if phase is Phase.GONE and not each.state.over:
            lost = "whoever did it is gone; run the batch again"
            each = replace(each, state=batch.State.LOST, code=ExitCode.RETRY, why=lost)
        elif phase in (Phase.WAITING, Phase.RUNNING) and each.state.over:
            each = replace(each, state=batch.State(phase), code=None, why="to be begun again")
        found.append(each)
    return found


def _chosen(tasks: Sequence[Task], jobs: Sequence[str] | None) -> list[Task]:
    from compressit.errors import RecipeError
    from compressit.registry import suggest

    known = [task.name for task in tasks]
    for name in jobs or ():
        if name not in known:
            raise RecipeError(f"there is no job {name} in this batch{suggest(name, known)}")
    return [task for task in tasks if not jobs or task.name in jobs]


@contextmanager
def _table(progress: Progress, *, quiet: bool) -> Iterator[Callable[[Sequence[Standing]], None]]:
    """Show how jobs stand: a table that changes in place on a terminal, a line for each change elsewhere."""
    import sys

    from compressit.batch import reporting
    from compressit.cli import console

    if quiet or not sys.stderr.isatty():
        told: dict[str, str] = {}

        def line(stood: Sequence[Standing]) -> None:
            for each in stood:
                now = f"{each.state}{', by an earlier batch' if each.before else ''}"
                now += f" (exit code {int(each.code)})" if each.code is not None else ""
                now += f": {each.why}" if each.why and each.state.over else ""
                if told.get(each.task.name, "waiting") != now:
                    progress.say(f"{each.task.name}: {now}")
                told[each.task.name] = now

        yield line
        return
    from rich.live import Live

    drawn = 0.0
    with Live(console=console.out(stderr=True), auto_refresh=False, vertical_overflow="visible") as live:

        def draw(stood: Sequence[Standing]) -> None:
            nonlocal drawn
            if time.monotonic() - drawn >= EACH or all(each.state.over for each in stood):
                live.update(console.grid(reporting.rows(stood), reporting.HEAD), refresh=True)
                drawn = time.monotonic()

        yield draw


def _tell(folder: Path, stood: Sequence[Standing], progress: Progress, *, json: bool, quiet: bool) -> int:
    """Write the report over all jobs, and print it."""
    from compressit.batch import reporting
    from compressit.cli import console
    from compressit.compare import tables
    from compressit.errors import MEANING

    comparison, notes = reporting.compared(stood)
    reporting.write(folder, stood, comparison, notes)
    code = reporting.exit_code(stood)
    if json:
        console.say(reporting.data(folder.name, stood))
    elif not quiet:
        console.table(reporting.rows(stood), reporting.HEAD)
        if comparison is not None:
            console.say(tables.headline(comparison))
        for note in notes:
            console.say(note)
        console.say(f"{reporting.headline(stood)}; side by side in {folder / 'report.md'}")
        if code:
            console.say(f"exit {int(code)}: {MEANING[code]}")
    return int(code)
