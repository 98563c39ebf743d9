"""`compressit check`: a saved artifact on fresh data, held against its report; the exit code says."""

from __future__ import annotations

from math import isfinite
from typing import TYPE_CHECKING, Annotated

import typer

from compressit.cli.options import Artifact, Columns, Device, Folder, Json, Quiet, Trust, named

if TYPE_CHECKING:
    from compressit.serving.drift import Drift


def check(
    folder: Folder,
    data: Annotated[str, typer.Option(help="Fresh rows: a file or folder as a recipe takes it, or a hub id.")],
    split: Annotated[str, typer.Option(help="Split of the data; one file is all train.")] = "train",
    artifact: Artifact = None,
    columns: Columns = None,
    labels: Annotated[
        list[str] | None,
        typer.Option(help="The model's label for one of the data: neg=NEGATIVE.", metavar="LABEL=LABEL"),
    ] = None,
    max_drop: Annotated[float, typer.Option(min=0, help="What a score may lie below the reported one.")] = 0.02,
    max_ratio: Annotated[float, typer.Option(min=1, help="By what factor any other figure may be worse.")] = 1.05,
    device: Device = "auto",
    trust_remote_code: Trust = False,
    json: Json = False,
    quiet: Quiet = False,
) -> int:
    """Measure a saved artifact on fresh data: exit code 0 if it surely holds, 3 if it surely lost more, 4 else."""
    from compressit.cli import console
    from compressit.errors import RecipeError
    from compressit.serving import drift, finished

    if not (isfinite(max_drop) and isfinite(max_ratio)):
        raise RecipeError("--max-drop and --max-ratio: expected a number, not infinity")
    wanted = drift.Wanted(
        data=data,
        artifact=artifact,
        split=split,
        columns=named(columns),
        labels=named(labels, "--labels", "neg=NEGATIVE") or None,
        max_drop=max_drop,
        max_ratio=max_ratio,
        device=device,
        trust_remote_code=trust_remote_code,
    )
    found = drift.check(finished.opened(folder), wanted, console.progress(quiet=quiet))
    if json:
        console.data(found.model_dump_json())
    elif not quiet:
        show(found)
    return int(found.exit_code)


def show(found: Drift) -> None:
    """Print the verdicts, then what else is known."""
    from compressit.cli import console
    from compressit.report import tables

    console.say(f"{found.run}/{found.artifact} on {found.examples:,} examples of {found.data}")
    if found.verdicts:
        rows = [
            [tables.MARKS[verdict.outcome], f"{verdict.metric} {tables.asked(verdict)}", tables.why(verdict)]
            for verdict in found.verdicts
        ]
        console.table(rows, ["", "against the report", "measured"])
    if found.labels is not None:
        console.say(f"predicted then: {_shares(found.labels.then)}")
        console.say(f"predicted now:  {_shares(found.labels.now)}{_alike(found.labels.p_value)}")
        console.say(f"mean confidence: {found.labels.confidence_then:.3f} then, {found.labels.confidence_now:.3f} now")
    for note in found.notes:
        console.say(note)


def _shares(counts: dict[str, int]) -> str:
    total = max(1, sum(counts.values()))
    most = sorted(counts.items(), key=lambda each: -each[1])[:10]
    return ", ".join(f"{name} {count / total:.1%}" for name, count in sorted(most))


def _alike(p_value: float | None) -> str:
    return "" if p_value is None else f" (chi-square p {p_value:.2g} for one distribution)"
