"""JSON Schema of a recipe, complete with every step's fields and documentation, for editors."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping
from types import ModuleType
from typing import Any, Literal, Union

from pydantic import create_model

from compressit import tasks
from compressit.recipe.models import Recipe
from compressit.recipe.ranges import OPTIONAL, SCALES
from compressit.recipe.validate import ROOMS

RANGE = {
    "description": "Left open for `compressit search`: a number between two, or one of several values.",
    "type": "object",
    "properties": {
        "search": {"type": "array", "minItems": 2},
        "choose": {"type": "array", "minItems": 2},
        "scale": {"enum": list(SCALES)},
    },
    "additionalProperties": False,
    "oneOf": [{"required": ["search"]}, {"required": ["choose"]}],
}
PARTS = "#/$defs/"
DIALECT = "https://json-schema.org/draft/2020-12/schema"


def schema() -> dict[str, Any]:
    """Build the schema; it accepts what `validate` accepts, up to rules across fields."""
    fields: dict[str, Any] = {room: (_entries(key, module), _field(room)) for room, (key, module) in ROOMS.items()}
    fields["task"] = (Literal[tuple(tasks.names())], _field("task"))
    kind: Any = _field("model").annotation
    fields["model"] = (kind | str, _field("model"))
    whole = create_model("Recipe", __base__=Recipe, **fields)
    made = whole.model_json_schema()
    parts = made["$defs"]
    named = {
        name: key
        for name, entry in parts.items()
        for key in ("step", "export")
        if entry.get("properties", {}).get(key, {}).get("const") is not None
    }
    inner = _within(named, parts) - named.keys()
    optional = {OPTIONAL: {"const": True, "description": "Whether `compressit search` may leave it out."}}
    opened = {name: _left_open(parts[name], key, optional) for name, key in named.items()}
    parts |= opened | {name: _left_open(parts[name]) for name in inner}
    made["$defs"]["Range"] = RANGE
    return {"$schema": DIALECT, **made, "title": "compressit recipe"}


def _left_open(entry: dict[str, Any], key: str = "", more: Mapping[str, Any] | None = None) -> dict[str, Any]:
    """Let each field but the one that names it be a range for `compressit search`, and have more fields."""
    fields = {
        name: field if name == key else {"anyOf": [field, {"$ref": f"{PARTS}Range"}]}
        for name, field in entry.get("properties", {}).items()
    }
    return {**entry, "properties": {**fields, **(more or {})}}


def _within(names: Iterable[str], parts: Mapping[str, Any]) -> set[str]:
    """Name the parts that some parts of the schema are made of, at whatever depth, and these themselves."""
    found, left = set[str](), list(names)
    while left:
        name = left.pop()
        if name not in found:
            found.add(name)
            left += re.findall(rf'"{re.escape(PARTS)}([^"]+)"', json.dumps(parts[name]))
    return found


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
