"""JSON Schema of a recipe, complete with every step's fields and documentation, for editors."""

from __future__ import annotations

from types import ModuleType
from typing import Any, Literal, Union

from pydantic import create_model

from compressit import tasks
from compressit.recipe.models import Recipe
from compressit.recipe.validate import ROOMS

DIALECT = "https://json-schema.org/draft/2020-12/schema"


def schema() -> dict[str, Any]:
    """Build the schema; it accepts what `validate` accepts, up to rules across fields."""
    fields: dict[str, Any] = {room: (_entries(key, module), _field(room)) for room, (key, module) in ROOMS.items()}
    fields["task"] = (Literal[tuple(tasks.names())], _field("task"))
    kind: Any = _field("model").annotation
    fields["model"] = (kind | str, _field("model"))
    whole = create_model("Recipe", __base__=Recipe, **fields)
    return {"$schema": DIALECT, **whole.model_json_schema(), "title": "compressit recipe"}


def _field(name: str) -> Any:
    return Recipe.model_fields[name]


def _entries(key: str, room: ModuleType) -> Any:
    """Make the type of a list whose entries are told apart by their name, or are a name alone."""
    names = room.names()
    configs = [_config(key, name, room.load(name)) for name in names]
    entry: Any = Union[(*configs, Literal[tuple(names)])]
    return tuple.__class_getitem__((entry, ...))


def _config(key: str, name: str, module: ModuleType) -> Any:
    title = "".join(part.title() for part in name.split("_"))
    fields: dict[str, Any] = {key: (Literal[name], ...)}
    made: Any = create_model(f"{title}{key.title()}", __base__=module.Config, __doc__=module.__doc__, **fields)
    return made
