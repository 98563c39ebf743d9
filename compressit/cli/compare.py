"""`compressit compare`: finished runs on the same examples; the exit code says whether every gate and target holds."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from compressit.cli.options import Device, Json, Quiet, Track
from compressit.errors import ExitCode

if TYPE_CHECKING:
    from compressit.compare import Comparison
    from compressit.compare.comparing import Timed
    from compressit.compare.runs import Run
    from compressit.progress import Progress
    from compressit.report.junit import Case


class Undecided(StrEnum):
    """What an inconclusive verdict does to the exit code."""

    FAIL = "fail"
    WARN = "warn"


def compare(
    runs: Annotated[
        list[Path],
        typer.Argument(help="Folders of finished runs, or recipes, which are applied first; the base comes first."),
    ],
    gates: Annotated[
        Path | None, typer.Option(help="File of bounds that each candidate must keep against the base (YAML).")
    ] = None,
    baseline: Annotated[
        Path | None, typer.Option(help="Hold every run against this file, instead of against the first run.")
    ] = None,
    write_baseline: Annotated[
        Path | None, typer.Option("--write-baseline", help="Write the first run's figures to a file to be committed.")
    ] = None,
    artifact: Annotated[
        str | None, typer.Option(help="Which artifact is compared: checkpoint, onnx, ... (default: each run's last).")
    ] = None,
    timings: Annotated[
        bool, typer.Option("--timings/--no-timings", help="Time the artifacts side by side, now.")
    ] = True,
    device: Device = "auto",
    html: Annotated[Path | None, typer.Option(help="Write the comparison and its runs as one page.")] = None,
    markdown: Annotated[Path | None, typer.Option(help="Write the comparison as Markdown, for a comment.")] = None,
    junit: Annotated[Path | None, typer.Option(help="Write JUnit XML, a case for each target and gate.")] = None,
    github: Annotated[
        bool, typer.Option("--github", help="Add to the job's summary on GitHub, and annotate what doesn't pass.")
    ] = False,
    inconclusive: Annotated[
        Undecided, typer.Option(help="Whether a verdict that can't be decided fails, or only warns.")
    ] = Undecided.FAIL,
    overwrite: Annotated[
        bool, typer.Option("--overwrite", help="Apply a recipe again whose folder holds another recipe's result.")
    ] = False,
    track: Track = None,
    json: Json = False,
    quiet: Quiet = False,
) -> int:
    """Compare finished runs example by example, and judge the gates."""
    from compressit.cli import console
    from compressit.compare import baseline as baselines
    from compressit.compare import comparing
    from compressit.compare import gates as bounds
    from compressit.compare import runs as opened
    from compressit.errors import RecipeError

    made = [file for file in (html, markdown, junit, write_baseline) if file is not None]
    _check_outputs(made, applied=any(_is_recipe(path) for path in runs))
    asked = bounds.load(gates) if gates else None
    if len(runs) + (baseline is not None) < 2 and write_baseline is None:
        raise RecipeError(
            "one run alone can't be compared", hint="name another run, or a file with --baseline or --write-baseline"
        )
    base_file = baselines.read(baseline) if baseline else None
    if base_file is not None and asked is not None:
        comparing.check_gates(base_file, asked)
    progress = console.progress(quiet=quiet)
    found = opened.open_all([_applied(path, device, overwrite, track or (), progress) for path in runs], artifact)
    if write_baseline is not None:
        _put(write_baseline, baselines.text(baselines.of(found[0])))
        progress.say(f"baseline written to {write_baseline}")
    if base_file is not None:
        candidates, comparison = found, comparing.with_baseline(base_file, found, asked)
    elif len(found) > 1:
        comparing.check(found[0], found[1:], asked)
        timed = _timed(found, device, progress) if timings else None
        candidates, comparison = found[1:], comparing.runs(found[0], found[1:], asked, timed)
    else:
        return ExitCode.OK
    cases = list(_cases(comparison, candidates))
    if html is not None:
        _put(html, _page(comparison, found, progress))
    if markdown is not None:
        from compressit.compare.markdown import document

        _put(markdown, document(comparison, _targets(candidates)))
    _write(comparison, candidates, cases, junit, github, inconclusive)
    if json:
        console.data(comparison.model_dump_json())
    elif not quiet:
        show(comparison, candidates)
    return _exit(comparison, cases, inconclusive, quiet=quiet or json)


def _is_recipe(path: Path) -> bool:
    return path.suffix.lower() in (".yaml", ".yml") and not path.is_dir()


def _check_outputs(files: Sequence[Path], *, applied: bool) -> None:
    """Refuse before any work what can't be written after it; where a recipe is applied first, that makes folders."""
    from compressit.errors import RecipeError
    from compressit.serving import finished

    for file in files:
        if file.is_dir():
            raise RecipeError(f"can't write {file}: it is a folder", hint="name a file")
        if not (applied or file.parent.is_dir()):
            raise RecipeError(f"can't write {file}: there is no folder {file.parent}")
        finished.check_outside(file)


def _applied(path: Path, device: str, overwrite: bool, track: Sequence[str], progress: Progress) -> Path:
    """Give the folder of a run; a recipe that has none yet is applied."""
    from compressit import plan, runner, store, tracking
    from compressit import recipe as recipes

    if not _is_recipe(path):
        return path
    written = recipes.load(path)
    folder = Path("runs") / written.recipe.name
    if folder.is_dir() and store.manifest(folder).get("recipe_sha256") == recipes.digest(written.recipe):
        progress.say(f"{path} is applied already: {folder}")
        return folder
    progress.say(f"apply {path}")
    store.check_target(folder, overwrite=overwrite)
    planned = plan.plan(written)
    with tracking.follow(track, written.recipe, folder, progress) as followed:
        followed.report(runner.run(planned, folder, device=device, overwrite=overwrite, progress=followed))
    return folder


def _timed(found: Sequence[Run], device: str, progress: Progress) -> Timed | None:
    """Time the artifacts; where their data can't be read any more, say so and go on without."""
    from compressit import provenance
    from compressit.compare import timing
    from compressit.errors import DataError, RetryableError

    progress.say("time the artifacts side by side")
    try:
        return timing.time(found[0], found[1:], provenance.device(device))
    except (DataError, RetryableError) as error:
        progress.say(f"warning: nothing is timed: {error.message}")
        return None


def _page(comparison: Comparison, found: Sequence[Run], progress: Progress) -> str:
    """Make the page; every run is on it, with the text of its examples where the data can be read."""
    from compressit.compare.html import page
    from compressit.progress import quiet
    from compressit.report import files

    with quiet():
        runs = [files.read(run.finished.folder, run.name) for run in found]
    for run in runs:
        if run.textless:
            progress.say(f"{run.name}: examples are shown without their text: {run.textless}")
    return page(runs, comparison)


def _cases(comparison: Comparison, candidates: Sequence[Run]) -> Iterator[Case]:
    """Give the targets of each candidate as its run judged them, and its gates."""
    from compressit.report.junit import Case

    for run, compared in zip(candidates, comparison.candidates, strict=True):
        for verdict in run.finished.report.verdicts:
            yield Case(f"{run.name}: targets", verdict)
        for verdict in compared.verdicts:
            yield Case(f"{run.name}: gates against {comparison.base.name}", verdict)


def _write(
    comparison: Comparison,
    candidates: Sequence[Run],
    cases: Sequence[Case],
    junit: Path | None,
    github: bool,
    inconclusive: Undecided,
) -> None:
    """Write what was asked for besides the tables."""
    import os

    from compressit.cli import console
    from compressit.compare import markdown
    from compressit.report import github as workflow
    from compressit.report import junit as xml

    if junit is not None:
        _put(junit, xml.document(cases, undecided_fails=inconclusive is Undecided.FAIL))
    if github:
        summary = os.environ.get("GITHUB_STEP_SUMMARY")
        if summary:
            text = markdown.document(comparison, _targets(candidates))
            try:
                written = Path(summary).stat().st_size if Path(summary).exists() else 0
                with Path(summary).open("a", encoding="utf-8") as file:
                    file.write(markdown.within(text, max(0, markdown.SUMMARY_BYTES - written)))
            except OSError as error:
                console.tell(f"warning: the job's summary can't be written: {error.strerror or error}")
        for line in workflow.commands(cases):
            # Standard output may hold JSON; GitHub reads commands from both.
            console.tell(line)


def _put(file: Path, text: str) -> None:
    from compressit.errors import RecipeError

    try:
        file.write_text(text, encoding="utf-8")
    except OSError as error:
        raise RecipeError(f"can't write {file}: {error.strerror or error}") from error


def _targets(candidates: Sequence[Run]) -> list[list[str]]:
    from compressit.report import tables

    return [
        [verdict, run.name, target, measured]
        for run in candidates
        for verdict, target, _, measured in tables.targets(run.finished.report)
    ]


def show(comparison: Comparison, candidates: Sequence[Run]) -> None:
    """Print the comparison."""
    from compressit.cli import console
    from compressit.compare import tables

    for each in comparison.candidates:
        head = ["", comparison.base.name, each.side.name, *tables.HEAD[3:]]
        console.table(tables.differences(each), head)
        for note in tables.notes(each):
            console.say(note)
    targets = _targets(candidates)
    if targets:
        console.table(targets, ["", "run", "target of its own recipe", "measured"])
    judged = tables.gates(comparison)
    if judged:
        console.table(judged, ["", "run", "gate", "measured"])
    console.say(tables.headline(comparison))


def _exit(comparison: Comparison, cases: Sequence[Case], inconclusive: Undecided, *, quiet: bool) -> int:
    from compressit.cli import console
    from compressit.report import exit_code

    code = exit_code(case.verdict.outcome for case in cases)
    if code is ExitCode.INCONCLUSIVE and inconclusive is Undecided.WARN:
        code = ExitCode.OK
    if code and not quiet:
        whose = "gate" if comparison.exit_code is code else "target of a candidate's own recipe"
        said = {
            ExitCode.TARGET_MISSED: f"A {whose} was missed.",
            ExitCode.INCONCLUSIVE: f"No {whose} was missed, but at least one can't be decided.",
        }
        console.say(f"exit {int(code)}: {said[code]}")
    return int(code)
