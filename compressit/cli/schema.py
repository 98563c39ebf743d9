"""`compressit schema`: JSON Schema of a recipe, for editors."""

from __future__ import annotations


def schema() -> None:
    """Print the JSON Schema of a recipe, with every step's fields and documentation."""
    from json import dumps

    from compressit.cli.console import say
    from compressit.recipe.schema import schema as build

    say(dumps(build(), indent=1))
