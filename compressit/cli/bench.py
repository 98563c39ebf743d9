"""`compressit bench`: latency and throughput of saved artifacts, next to the original, round by round."""

from __future__ import annotations

from math import isfinite
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from compressit.cli.options import Device, Folders, Json, Quiet, Trust

if TYPE_CHECKING:
    from compressit.serving.bench import Benchmark, Speed

MOST = 1_000_000
"""Examples or tokens that nobody times at once."""


def bench(
    folders: Folders,
    artifact: Annotated[list[str] | None, typer.Option(help="Artifact to time (default: all of each result).")] = None,
    original: Annotated[
        Path | None, typer.Option(help="Folder of the original (default: the recipe's model, where it is at hand).")
    ] = None,
    batch: Annotated[str, typer.Option(help="Batch sizes.", metavar="N,N")] = "1,8,32",
    length: Annotated[
        str | None,
        typer.Option(
            help="Tokens of each text (default: 32,128, as far as the model takes them); images have none, and sounds "
            "last a second.",
            metavar="N,N",
        ),
    ] = None,
    seconds: Annotated[float, typer.Option(min=0, help="Time for each batch size and length; 21 rounds at least.")] = 3,
    device: Device = "auto",
    trust_remote_code: Trust = False,
    json: Json = False,
    quiet: Quiet = False,
) -> None:
    """Time artifacts on random inputs, one right after the other in random order, each on its own runtime."""
    from compressit.cli import console
    from compressit.errors import RecipeError
    from compressit.serving import finished
    from compressit.serving.bench import Wanted
    from compressit.serving.bench import bench as timed

    if not isfinite(seconds):
        raise RecipeError("--seconds: expected a number, not infinity")
    wanted = Wanted(
        artifacts=tuple(artifact or ()),
        original=original,
        batches=_numbers(batch, "--batch"),
        lengths=_numbers(length, "--length") if length is not None else None,
        device=device,
        seconds=seconds,
        trust_remote_code=trust_remote_code,
    )
    runs = [finished.opened(folder) for folder in folders]
    found = timed(runs, wanted, console.progress(quiet=quiet))
    if json:
        console.data(found.model_dump_json())
    elif not quiet:
        show(found)


def show(found: Benchmark) -> None:
    """Print one table: a line for each artifact at each batch size and length."""
    from compressit.cli import console
    from compressit.recipe.quantities import show as shown

    first, texts = found.timed[0].name, any(cell.length is not None for cell in found.cells)
    runs_on = {each.name: f"{each.runtime}, {each.device}" for each in found.timed}
    rows = []
    for cell in found.cells:
        for place, speed in enumerate(cell.speeds):
            noise = "?" if cell.noise is None else f"{cell.noise - 1:.1%}"
            row = [str(cell.batch), *([str(cell.length)] if texts else []), f"{speed.name} ({runs_on[speed.name]})"]
            row += [
                shown(speed.p50, "seconds"),
                shown(speed.p90, "seconds"),
                shown(speed.examples_per_second, "examples/s"),
            ]
            rows.append([*row, _ratio(speed), "" if place else noise, "" if place else str(cell.rounds)])
    head = [
        "batch",
        *(["length"] if texts else []),
        "",
        "median",
        "p90",
        "examples",
        f"time / {first}",
        "noise",
        "rounds",
    ]
    console.table(rows, head)
    for line in found.undecided():
        console.say(line)


def _ratio(speed: Speed) -> str:
    if speed.ratio is None:
        return "1"
    low, high = ("?" if bound is None else f"{bound:.3g}" for bound in (speed.ratio_low, speed.ratio_high))
    return f"{speed.ratio:.3g} ({low} to {high})"


def _numbers(text: str, option: str) -> tuple[int, ...]:
    """Read whole numbers with commas between them.

    Raises:
        RecipeError: that is not what they are.
    """
    from compressit.errors import RecipeError

    parts = [part.strip() for part in text.split(",")]
    if not all(part.isdecimal() and len(part) <= len(str(MOST)) and 0 < int(part) <= MOST for part in parts):
        raise RecipeError(
            f"{option} {text!r}: expected whole numbers above 0 with commas between them, such as 1,32, "
            f"none above {MOST:,}"
        )
    return tuple(dict.fromkeys(int(part) for part in parts))
