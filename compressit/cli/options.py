"""Arguments that several verbs share."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Annotated

import typer


def here(path: Path | None) -> Path | None:
    """Refuse a URL where a folder of this machine is meant."""
    from compressit.errors import RecipeError

    if path is not None and re.match(r"[A-Za-z][\w+.-]+:/", str(path)):
        raise RecipeError(f"{path} is no folder of this machine", hint="only `apply` and `verify` take a URL")
    return path


RecipeFile = Annotated[Path, typer.Argument(help="Recipe file (YAML).", metavar="RECIPE")]
Folder = Annotated[Path, typer.Argument(help="Folder of a result.", metavar="DIR", callback=here)]
Folders = Annotated[list[Path], typer.Argument(help="Folders of results.", metavar="DIR...")]
Artifact = Annotated[str | None, typer.Option(help="Artifact of the result (default: the last one made).")]
Device = Annotated[str, typer.Option(help="auto, cpu or cuda.")]
Trust = Annotated[bool, typer.Option("--trust-remote-code", help="Run Python code that the model's repository holds.")]
Quiet = Annotated[bool, typer.Option("-q", "--quiet", help="Print nothing but errors.")]
Columns = Annotated[
    list[str] | None,
    typer.Option(help="Column for a role, where it is not the recipe's: text=review.", metavar="ROLE=COLUMN"),
]
Set = Annotated[
    list[str] | None,
    typer.Option("--set", help="Change one value of the recipe: path.to.field=value, as in steps.0.keep=3."),
]
Track = Annotated[
    list[str] | None,
    typer.Option(
        "--track",
        help="Let a tracker follow the run (`compressit trackers list`); may be repeated. It gets the recipe, the "
        "training's curves and the report; where, its library's own environment variables say. An outage is a warning.",
        metavar="NAME",
    ),
]
Overwrite = Annotated[bool, typer.Option("--overwrite", help="Replace an earlier result.")]
Waterfall = Annotated[
    bool, typer.Option("--waterfall/--no-waterfall", help="Measure after each step, too, to say what each gained.")
]
Json = Annotated[bool, typer.Option("--json", help="Print JSON on standard output, and nothing else there.")]


def named(given: list[str] | None, option: str = "--columns", example: str = "text=review") -> dict[str, str]:
    """Read `name=value` arguments, of which one may hold several with commas between them.

    Raises:
        RecipeError: one is not written so.
    """
    from compressit.errors import RecipeError

    found = {}
    for part in ",".join(given or ()).split(",") if given else ():
        name, _, value = (piece.strip() for piece in part.partition("="))
        if not (name and value):
            raise RecipeError(f"{option} {part!r}: expected NAME=NAME, such as {example}")
        found[name] = value
    return found


def seconds(text: str | None) -> float | None:
    """Read a time limit, `--timeout`; None where there is none.

    Raises:
        RecipeError: it is not written as one.
    """
    from compressit.errors import RecipeError

    if text is None:
        return None
    found = re.fullmatch(r"(\d{1,7}(?:\.\d+)?)\s*(s|m|h|d)?", text.strip())
    seconds = float(found[1]) * {"s": 1, "m": 60, "h": 3600, "d": 86400}[found[2] or "s"] if found else 0.0
    if not seconds:
        raise RecipeError(f"--timeout {text}: expected seconds, or a number with s, m, h or d, such as 90m")
    return seconds
