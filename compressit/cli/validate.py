"""`compressit validate`: every error of the recipes at once, before any work."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from compressit.cli.options import Set


def validate(
    recipes: Annotated[list[Path], typer.Argument(help="Recipe files (YAML).", metavar="RECIPE...")],
    set_: Set = None,
) -> None:
    """Check recipes: every error at once, each with its place. Exit code 2 if there is one."""
    from compressit import recipe as reading
    from compressit import rules
    from compressit.cli.console import say
    from compressit.recipe import Problem, RecipeProblems

    problems: list[Problem] = []
    for file in recipes:
        try:
            written = reading.load(file, tuple(set_ or ()))
        except RecipeProblems as error:
            problems += error.problems
            continue
        wrong = rules.check(written)
        problems += wrong
        if not wrong:
            found = written.recipe
            many = f"{len(found.steps)} steps, {len(found.exports)} exports, {len(found.targets)} targets"
            say(f"{file}: valid ({many})")
    if problems:
        raise RecipeProblems(problems)
