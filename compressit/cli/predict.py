"""`compressit predict`: what a saved artifact says of new rows."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from compressit.cli.options import Artifact, Columns, Device, Folder, Quiet, Trust, named


def predict(
    folder: Folder,
    input: Annotated[Path, typer.Option(help="Rows without labels: json lines, csv, tsv or parquet.")],
    output: Annotated[str, typer.Option(help="File of JSON lines to write; - is standard output.")],
    artifact: Artifact = None,
    columns: Columns = None,
    batch_size: Annotated[int, typer.Option(min=1, help="Rows at once.")] = 32,
    vectors: Annotated[
        bool, typer.Option("--vectors", help="Give the vector of each text, for sentence-similarity.")
    ] = False,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace a file that is there.")] = False,
    device: Device = "auto",
    trust_remote_code: Trust = False,
    quiet: Quiet = False,
) -> None:
    """Run a saved artifact over new rows, on its runtime; write each row with its prediction."""
    from compressit import store
    from compressit.cli import console
    from compressit.errors import RecipeError
    from compressit.serving import finished
    from compressit.serving.predict import Wanted
    from compressit.serving.predict import predict as predicted

    wanted = Wanted(artifact, named(columns), batch_size, device, vectors, trust_remote_code)
    progress = console.progress(quiet=quiet)
    if output == "-":
        predicted(finished.opened(folder), input, wanted, lambda line: console.data(line.removesuffix("\n")), progress)
        return
    target = Path(output)
    if target.suffix.lower() not in (".jsonl", ".ndjson", ".json"):
        raise RecipeError(f"--output {output}: predictions are written as JSON lines", hint="name a .jsonl file")
    if target.exists() and input.exists() and target.samefile(input):
        raise RecipeError(f"--output {output} is the input itself", hint="name another file; its rows would be lost")
    store.check_file(target, overwrite=overwrite)
    finished.check_outside(target)
    run = finished.opened(folder)
    with store.written(target, overwrite=overwrite) as stream:
        count = predicted(run, input, wanted, stream.write, progress)
    if not quiet:
        console.say(f"{target}: {count:,} rows, each with its prediction by {folder / run.artifact(artifact).path}")
