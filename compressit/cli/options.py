"""Arguments that several verbs share."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

RecipeFile = Annotated[Path, typer.Argument(help="Recipe file (YAML).", metavar="RECIPE")]
Folder = Annotated[Path, typer.Argument(help="Folder of a result.", metavar="DIR")]
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
Json = Annotated[bool, typer.Option("--json", help="Print JSON on standard output, and nothing else there.")]


def named(columns: list[str] | None) -> dict[str, str]:
    """Read `role=column` arguments, of which one may hold several with commas between them.

    Raises:
        RecipeError: one is not written so.
    """
    from compressit.errors import RecipeError

    found = {}
    for part in ",".join(columns or ()).split(",") if columns else ():
        role, sign, column = (piece.strip() for piece in part.partition("="))
        if not (role and sign and column):
            raise RecipeError(f"--columns {part!r}: expected ROLE=COLUMN, such as text=review")
        found[role] = column
    return found
