"""Values -> Recipe, with every error at once, each at its place."""

from __future__ import annotations

import copy
import itertools
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from types import ModuleType
from typing import Any

from pydantic import BaseModel, ValidationError

from compressit import exports, metrics, steps, tasks
from compressit.recipe.document import Document, TreePath
from compressit.recipe.models import Recipe
from compressit.recipe.problems import Problem, RecipeProblems, clean
from compressit.recipe.ranges import OPTIONAL, Range
from compressit.registry import suggest
from compressit.spec import IDLE

ROOMS: Mapping[str, tuple[str, ModuleType]] = {
    "steps": ("step", steps),
    "exports": ("export", exports),
    "metrics": ("metric", metrics),
}
"""The lists of a recipe whose entries are files of a room: the list's key, the key of the name, and the room."""


def validate(document: Document) -> Recipe:
    """Build the recipe.

    Raises:
        RecipeProblems: everything that is wrong, at once.
    """
    tree = document.tree
    if not isinstance(tree, dict):
        kind = "a list" if isinstance(tree, list) else "a single value"
        raise RecipeProblems([document.problem((), f"a recipe is a mapping of fields, not {kind}")])
    problems: list[Problem] = []
    parts = {room: _entries(document, room, problems) for room in ROOMS if room in tree}
    rest = {key: value for key, value in tree.items() if key not in ROOMS}
    if isinstance(rest.get("model"), str):
        rest["model"] = {"path": rest["model"]}
    core: Recipe | None = build(Recipe, rest, (), document, problems)
    if isinstance(tree.get("task"), str) and tree["task"] not in tasks.names():
        message = f"unknown task {tree['task']!r}{suggest(tree['task'], tasks.names())}"
        problems.append(document.problem(("task",), message))
    if problems or core is None:
        raise RecipeProblems(problems)
    return core.model_copy(update=parts)


def _entries(document: Document, room: str, problems: list[Problem]) -> tuple[Any, ...]:
    key, module = ROOMS[room]
    entries = document.tree.get(room)
    if entries is None:
        return ()
    if not isinstance(entries, list):
        hint = f"write `- {key}: NAME` on a line of its own for each"
        problems.append(document.problem((room,), f"{room} must be a list", hint))
        return ()
    built = [_entry(document, (room, index), entry, key, module, problems) for index, entry in enumerate(entries)]
    return tuple(entry for entry in built if entry is not None)


def _entry(
    document: Document, path: TreePath, entry: Any, key: str, room: ModuleType, problems: list[Problem]
) -> BaseModel | None:
    if isinstance(entry, str):
        entry = {key: entry}
    if not isinstance(entry, dict) or not isinstance(entry.get(key), str):
        problems.append(document.problem(path, f"each entry of {path[0]} needs `{key}: NAME`"))
        return None
    try:
        config: type[BaseModel] = room.load(entry[key]).Config
    except LookupError as error:
        problems.append(document.problem((*path, key), str(error.args[0])))
        return None
    built: BaseModel | None = build(config, entry, path, document, problems)
    return built


def needed(document: Document, ranges: Sequence[Range], values: Mapping[str, Any]) -> Document:
    """Leave out of each entry the fields that do nothing with some values of its ranges, and something with others.

    Args:
        document: With ranges.
        ranges: All of them.
        values: One for each range, by its name.
    """
    tree = copy.deepcopy(document.tree)
    open_in: dict[tuple[str, int], list[Range]] = {}
    for each in ranges:
        if each.path[-1] != OPTIONAL:
            open_in.setdefault((str(each.path[0]), int(each.path[1])), []).append(each)
    for (room, index), own in open_in.items():
        fixed = {field: value for field, value in tree[room][index].items() if field != OPTIONAL}
        names = [str(each.path[-1]) for each in own]
        for field in _idle(room, fixed | {name: values[each.name] for name, each in zip(names, own, strict=True)}):
            others = itertools.product(*(each.ends() for each in own))
            if any(field not in _idle(room, fixed | dict(zip(names, other, strict=True))) for other in others):
                del tree[room][index][field]
    return replace(document, tree=tree)


def _idle(room: str, entry: Mapping[str, Any]) -> frozenset[str]:
    """Name the fields of an entry that do nothing; none where something else is wrong with it, too."""
    key, module = ROOMS[room]
    try:
        module.load(entry[key]).Config.model_validate_json(json.dumps(entry))
    except ValidationError as error:
        return frozenset(str(each["loc"][0]) for each in error.errors() if each["type"] == IDLE)
    except LookupError:
        pass
    return frozenset()


def build(kind: type[Any], values: dict[str, Any], path: TreePath, document: Document, problems: list[Problem]) -> Any:
    """Build one part of a document; None where something is wrong with it, which `problems` then holds.

    Args:
        kind: A pydantic model.
        values: Its fields, as written.
        path: Where they stand in the document.
        document: Knows the place of each.
        problems: Gets what is wrong.
    """
    try:
        # JSON mode is strict about types and still takes a list for a tuple.
        return kind.model_validate_json(json.dumps(values))
    except ValidationError as error:
        found: dict[tuple[TreePath, bool], list[tuple[str, str | None]]] = {}
        entries = error.errors(include_url=False, include_context=False)
        for entry in entries:
            if entry["type"] == "too_short" and any(_within(each["loc"], entry["loc"]) for each in entries):
                continue  # pydantic counts only the entries that are right
            inner, unknown = _locate(values, entry["loc"]), entry["type"] == "extra_forbidden"
            said = _say(entry, kind, inner)
            found.setdefault((inner, unknown), []).append(said)
        for (inner, unknown), choices in found.items():
            message = " or ".join(dict.fromkeys(text for text, _ in choices))
            hint = next((hint for _, hint in choices if hint), None)
            problems.append(document.problem((*path, *inner), message, hint, key=unknown))
        return None


def _within(inner: tuple[str | int, ...], outer: tuple[str | int, ...]) -> bool:
    return len(inner) > len(outer) and inner[: len(outer)] == outer


def _locate(values: Any, loc: tuple[str | int, ...]) -> TreePath:
    """Keep of pydantic's location what was written; drop its names for the branches of a union."""
    path: list[str | int] = []
    for part in loc:
        inside = isinstance(values, dict) and part in values
        if not inside and not (isinstance(values, list) and isinstance(part, int) and part < len(values)):
            break
        values = values[part]
        path.append(part)
    return tuple(path)


SAYINGS: Mapping[str, Callable[[dict[str, Any]], str]] = {
    "string_type": lambda e: "should be text",
    "int_type": lambda e: "should be a whole number",
    "int_from_float": lambda e: "should be a whole number",
    "float_type": lambda e: "should be a number",
    "bool_type": lambda e: "should be true or false",
    "tuple_type": lambda e: "should be a list",
    "dict_type": lambda e: "should be a mapping",
    "model_type": lambda e: "should be a mapping of fields",
    "model_attributes_type": lambda e: "should be a mapping of fields",
}


def _say(entry: Any, kind: type[BaseModel], path: TreePath) -> tuple[str, str | None]:
    loc, value = entry["loc"], entry["input"]
    if entry["type"] == "extra_forbidden":
        known = list(_fields(kind, loc[:-1]))
        return f"unknown key {loc[-1]!r}{suggest(str(loc[-1]), known)}", None
    if entry["type"] == "missing":
        return f"{loc[-1]!r} is missing", None
    if entry["type"] == IDLE:
        return entry["msg"], "leave it out, or set what it goes with"
    if entry["type"] == "value_error":
        return entry["msg"].removeprefix("Value error, "), None
    said = SAYINGS.get(entry["type"])
    text = said(entry) if said else entry["msg"].replace("Input should be", "should be")
    shown = (
        f", not {clean(json.dumps(value))[:60]}" if value is None or isinstance(value, str | int | float | bool) else ""
    )
    hint = "put it in quotes" if entry["type"] == "string_type" and isinstance(value, int | float | bool) else None
    name = ".".join(str(part) for part in path)
    return f"{name}: {text}{shown}" if name else text, hint


def _fields(kind: Any, loc: tuple[str | int, ...]) -> list[str]:
    for part in loc:
        field = kind.model_fields.get(part) if hasattr(kind, "model_fields") else None
        if field is None:
            continue
        inner = [field.annotation, *getattr(field.annotation, "__args__", ())]
        kind = next((choice for choice in inner if hasattr(choice, "model_fields")), kind)
    return list(getattr(kind, "model_fields", {}))
