"""`compressit steps|exports|tasks|metrics|trackers list` and `show NAME`: what there is, from the files' own docs."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any, Literal, Union, get_args, get_origin

import typer

if TYPE_CHECKING:
    from types import ModuleType

ROOMS = {
    "steps": "Compression steps.",
    "exports": "Artifact formats.",
    "tasks": "What models do.",
    "metrics": "What is measured.",
    "trackers": "Where a run can be followed.",
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
        choices: tuple[tuple[str, ...], ...] = getattr(module, "CHOICES", ())
        chosen = {role for group in choices for role in group}
        roles = [f"  {' and '.join(group)}{' or' if group != choices[-1] else ''}" for group in choices]
        roles += [
            f"  {role}{'' if required else ' (optional)'}"
            for role, required in module.ROLES.items()
            if role not in chosen
        ]
        return "\n".join([text, "", "Roles of columns:", *roles, "", f"Metrics: {', '.join(module.METRICS)}"])
    if room == "metrics":
        text += f"\n\nUnit: {module.UNIT or 'none'}; {module.BETTER} is better."
    if room == "trackers":
        return text
    fields = [line for name, field in module.Config.model_fields.items() for line in _field(room, name, field)]
    return "\n".join([text, "", "Fields:", *fields]) if fields else text


def _field(room: str, name: str, field: Any) -> list[str]:
    from pydantic_core import PydanticUndefined

    if name == room.removesuffix("s"):
        return []
    required = field.default is PydanticUndefined
    default = "required" if required else f"default {_plain(field.default)}"
    limits = _limits(field.metadata)
    return [f"  {name}: {kind(field.annotation)}{limits} ({default})", f"      {field.description or ''}"]


WORDS = {int: "whole number", float: "number", bool: "true or false", str: "text"}


def kind(annotation: Any) -> str:
    """Say a type in the words of a recipe."""
    from types import NoneType, UnionType

    origin, inner = get_origin(annotation), get_args(annotation)
    if origin is Annotated:
        return kind(inner[0]) + _limits(inner[1:])
    if origin in (Union, UnionType):
        return " or ".join(kind(choice) for choice in inner if choice is not NoneType)
    if origin is Literal:
        return " | ".join(str(choice) for choice in inner)
    if origin is tuple:
        return f"list of {kind(inner[0])}"
    if hasattr(annotation, "model_fields"):
        return f"{{{', '.join(annotation.model_fields)}}}"
    return WORDS.get(annotation, getattr(annotation, "__name__", str(annotation)))


def _limits(metadata: Any) -> str:
    signs = {"gt": ">", "ge": ">=", "lt": "<", "le": "<="}
    found = [info for item in metadata for info in getattr(item, "metadata", [item])]
    said = [f"{sign} {getattr(info, name):g}" for info in found for name, sign in signs.items() if hasattr(info, name)]
    return " " + ", ".join(said) if said else ""


def _plain(value: Any) -> str:
    if value is None or value == ():
        return "none"
    return str(value).lower() if isinstance(value, bool) else str(value)


def _room(room: str) -> ModuleType:
    from importlib import import_module

    return import_module(f"compressit.{room}")
