"""Recipe text -> Recipe: guarded parse, positions, overrides, targets, JSON Schema."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from compressit.data.source import FILES
from compressit.recipe import ranges
from compressit.recipe.document import Document, is_value, override, parse, read
from compressit.recipe.models import Expectation, Recipe, SearchSpec, Target
from compressit.recipe.problems import Problem, RecipeProblems
from compressit.recipe.ranges import Range
from compressit.recipe.validate import needed, validate
from compressit.spec import home

__all__ = [
    "Expectation",
    "Open",
    "Problem",
    "Range",
    "Recipe",
    "RecipeProblems",
    "SearchSpec",
    "Target",
    "Written",
    "anchored",
    "content",
    "digest",
    "load",
    "load_open",
    "located",
    "override",
    "parse",
    "read",
    "text",
    "written",
]


@dataclass(frozen=True)
class Written:
    """A recipe, and where each of its parts is written.

    Attributes:
        base: Folder that relative paths of the recipe start from.
    """

    recipe: Recipe
    document: Document
    base: Path


@dataclass(frozen=True)
class Open:
    """A recipe that may leave values open.

    Attributes:
        ranges: What it leaves open.
        base: Folder that relative paths of the recipe start from.
    """

    document: Document
    ranges: tuple[Range, ...]
    base: Path

    def filled(self, values: Mapping[str, Any]) -> Written:
        """Fill it in: a value for each range, by its name.

        What does nothing with these values, and something with others, is left out.

        Raises:
            RecipeProblems: the recipe is wrong with these.
        """
        document = ranges.filled(needed(self.document, self.ranges, values), values)
        return Written(validate(document), document, self.base)


def load(path: Path | str, overrides: tuple[str, ...] = ()) -> Written:
    """Read a recipe file and apply `path.to.field=value` overrides.

    Raises:
        RecipeError: the file can't be read, or is not guarded YAML.
        RecipeProblems: the recipe is wrong; every error at once, each with its place.
    """
    return written(load_open(path, overrides).document, Path(path))


def load_open(path: Path | str, overrides: tuple[str, ...] = ()) -> Open:
    """Read a recipe file that may leave values open, with `path.to.field=value` overrides applied.

    Raises:
        RecipeError: the file can't be read, or is not guarded YAML.
        RecipeProblems: a range is not written as it should be; whether values fit shows when they are filled in.
    """
    file = Path(path)
    document = override(read(file), tuple(overrides))
    return Open(document, ranges.find(document), file.resolve().parent)


def written(document: Document, file: Path) -> Written:
    """Check a document that was read from a file; raises RecipeProblems as `load` does."""
    ranges.refuse(document)
    return Written(validate(document), document, file.resolve().parent)


def located(path: str, base: Path) -> str:
    """Turn a path of the recipe into an absolute one where it is local; leave hub ids and demos as they are."""
    if path.startswith("demo:"):
        return path
    local = base / home(path)
    return str(local.resolve()) if local.exists() or looks_local(path) else path


def anchored(recipe: Recipe, base: Path) -> Recipe:
    """Give the recipe with its local paths made absolute, so that it can be run again from anywhere."""

    def place(part: Any, field: str) -> Any:
        path = getattr(part, field, None)
        if not path:
            return part
        found = located(path, base) if isinstance(path, str) else tuple(located(each, base) for each in path)
        return part.model_copy(update={field: found})

    changed: dict[str, Any] = {"model": place(recipe.model, "path")}
    if recipe.dataset is not None:
        changed["dataset"] = place(recipe.dataset, "path")
    if recipe.steps:
        changed["steps"] = tuple(place(place(step, "teacher"), "model") for step in recipe.steps)
    return recipe.model_copy(update=changed)


def looks_local(path: str) -> bool:
    """Tell whether a path can only mean a place on disk."""
    return path.startswith((".", "/", "~")) or path.count("/") > 1 or Path(path).suffix.lower() in FILES


def content(recipe: Recipe) -> dict[str, Any]:
    """Give a recipe's content as plain values, without the fields that were left out, and how to search."""
    return recipe.model_dump(mode="json", exclude_unset=True, serialize_as_any=True, exclude={"search"})


def digest(recipe: Recipe) -> str:
    """SHA-256 of the recipe's full content, defaults included; comments, spacing and how to search don't count."""
    whole = recipe.model_dump(mode="json", serialize_as_any=True, exclude={"search"})
    return hashlib.sha256(json.dumps(whole, sort_keys=True).encode()).hexdigest()


def text(recipe: Recipe, comment: str = "") -> str:
    """Write a recipe as YAML."""
    head = "".join(f"# {line}\n" for line in comment.splitlines())
    return head + yaml.dump(content(recipe), Dumper=_Dumper, sort_keys=False, allow_unicode=True, width=110)


class _Dumper(yaml.SafeDumper):
    """Quotes texts that `read` would take for a number, as YAML 1.1, which PyYAML writes, would not."""


def _text(dumper: _Dumper, text: str) -> yaml.ScalarNode:
    return dumper.represent_scalar("tag:yaml.org,2002:str", text, style='"' if is_value(text) else None)


_Dumper.add_representer(str, _text)
