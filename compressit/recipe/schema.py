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
    fields: dict[str, Any] = {
        room: (tuple[_entry(key, module), ...], _default(room)) for room, (key, module) in ROOMS.items()
    }
    fields["task"] = (Literal[tuple(tasks.names())], Recipe.model_fields["task"])
    for name in ("model", "dataset"):
        fields[name] = (Recipe.model_fields[name].annotation | str, Recipe.model_fields[name])  # type: ignore[operator]
    whole = create_model("Recipe", __base__=Recipe, **fields)
    return {"$schema": DIALECT, **whole.model_json_schema(), "title": "compressit recipe"}


def _default(room: str) -> Any:
    return Recipe.model_fields[room]


def _entry(key: str, room: ModuleType) -> Any:
    names = room.names()
    configs = [_config(key, name, room.load(name)) for name in names]
    return Union[(*configs, Literal[tuple(names)])]  # noqa: UP007 - built from a list


def _config(key: str, name: str, module: ModuleType) -> Any:
    title = "".join(part.title() for part in name.split("_"))
    return create_model(
        f"{title}{key.title()}", __base__=module.Config, __doc__=module.__doc__, **{key: (Literal[name], ...)}
    )
