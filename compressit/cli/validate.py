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
            opened = reading.load_open(file, tuple(set_ or ()))
            if opened.ranges:
                from compressit import search

                found = search.check(opened).recipe
            else:
                written = opened.filled({})
                found = written.recipe
                if wrong := rules.check(written):
                    raise RecipeProblems(wrong)
        except RecipeProblems as error:
            problems += error.problems
            continue
        many = f"{len(found.steps)} steps, {len(found.exports)} exports, {len(found.targets)} targets"
        left = f", {len(opened.ranges)} left open for `compressit search`" if opened.ranges else ""
        say(f"{file}: valid ({many}{left})")
    if problems:
        raise RecipeProblems(problems)
