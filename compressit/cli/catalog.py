"""`compressit steps|exports|tasks|metrics list` and `show NAME`: what a recipe may name, from the files' own docs."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:
    from types import ModuleType

ROOMS = {
    "steps": "Compression steps.",
    "exports": "Artifact formats.",
    "tasks": "What models do.",
    "metrics": "What is measured.",
}


def verbs(room: str) -> typer.Typer:
    """Make the two verbs of a room."""
    made = typer.Typer(help=ROOMS[room], no_args_is_help=True, rich_markup_mode=None)

    @made.command("list", help=f"List the {room} there are.")
    def list_() -> None:
        from compressit.cli.console import table

        table(rows(room))

    @made.command(help="Show what one does and the fields it takes.")
    def show(name: Annotated[str, typer.Argument(metavar="NAME")]) -> None:
        from compressit.cli.console import say
        from compressit.errors import RecipeError

        try:
            module = _room(room).load(name)
        except LookupError as error:
            raise RecipeError(str(error.args[0])) from None
        say(describe(room, module))

    return made


def rows(room: str) -> list[list[str]]:
    """Name and first line of documentation of everything in a room."""
    from compressit.registry import summary

    module = _room(room)
    return [[name, summary(module.load(name))] for name in module.names()]


def describe(room: str, module: Any) -> str:
    """Write the whole documentation of one file: its docstring, then its fields."""
    text = (module.__doc__ or "").strip()
    if room == "tasks":
        roles = [f"  {role}{'' if required else ' (optional)'}" for role, required in module.ROLES.items()]
        return "\n".join([text, "", "Roles of columns:", *roles, "", f"Metrics: {', '.join(module.METRICS)}"])
    fields = [line for name, field in module.Config.model_fields.items() for line in _field(room, name, field)]
    return "\n".join([text, "", "Fields:", *fields]) if fields else text


def _field(room: str, name: str, field: Any) -> list[str]:
    from pydantic_core import PydanticUndefined

    if name == room.removesuffix("s"):
        return []
    kind = getattr(field.annotation, "__name__", None) if not hasattr(field.annotation, "__args__") else None
    shown = kind or str(field.annotation).replace("typing.", "").replace("NoneType", "none")
    default = "" if field.default is PydanticUndefined else f" = {_plain(field.default)}"
    return [f"  {name}: {shown}{default}", f"      {field.description or ''}"]


def _plain(value: Any) -> str:
    return "none" if value is None else "[]" if value == () else str(value)


def _room(room: str) -> ModuleType:
    from importlib import import_module

    return import_module(f"compressit.{room}")
