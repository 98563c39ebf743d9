"""`compressit validate`: every error of a recipe at once, before any work."""

from __future__ import annotations

from compressit.cli.options import RecipeFile, Set


def validate(recipe: RecipeFile, set_: Set = None) -> None:
    """Check a recipe: every error at once, each with its place. Exit code 2 if there is one."""
    from compressit import recipe as recipes
    from compressit import rules
    from compressit.cli.console import say
    from compressit.recipe import RecipeProblems

    written = recipes.load(recipe, tuple(set_ or ()))
    problems = rules.check(written)
    if problems:
        raise RecipeProblems(problems)
    found = written.recipe
    say(f"{recipe}: valid ({len(found.steps)} steps, {len(found.exports)} exports, {len(found.targets)} targets)")
