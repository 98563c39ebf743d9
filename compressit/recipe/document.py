"""Guarded YAML: text -> plain values and the place of each, refusing what could hang, crash or mislead.

PyYAML's own constructor is not used: merge keys make it run for minutes on 600 bytes, duplicate keys vanish, `no` is
False, `010` is 8 and `1e-4` is text. The events are read one by one instead, each checked before the next, and plain
scalars follow YAML 1.2's core schema.
"""

from __future__ import annotations

import copy
import re
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import yaml

from compressit.errors import RecipeError
from compressit.recipe.problems import Place, Problem, RecipeProblems

MAX_BYTES = 256 * 1024
MAX_DEPTH = 32
MAX_NODES = 10_000
MAX_DIGITS = 18

INTEGER = re.compile(r"[-+]?\d+")
NUMBER = re.compile(r"[-+]?(\.\d+|\d+(\.\d*)?)([eE][-+]?\d+)?")
INDEX = re.compile(r"[0-9]{1,6}")
NOT_FINITE = re.compile(r"[-+]?\.(inf|Inf|INF)|\.(nan|NaN|NAN)")
WORDS = {"true": True, "True": True, "TRUE": True, "false": False, "False": False, "FALSE": False}
NULLS = {"", "~", "null", "Null", "NULL"}

TreePath = tuple[str | int, ...]


@dataclass(frozen=True)
class Document:
    """Plain values, and where each was written.

    Attributes:
        name: File name for messages.
        text: What was read.
        tree: Mappings, sequences, text, numbers, booleans and None.
        places: Place of each value by its path in the tree.
        keys: Place of each mapping key by the path of its value.
        overrides: The `--set` arguments that were applied, as written.
    """

    name: str
    text: str
    tree: Any
    places: dict[TreePath, Place] = field(default_factory=dict)
    keys: dict[TreePath, Place] = field(default_factory=dict)
    overrides: tuple[str, ...] = ()

    def place(self, path: TreePath, *, key: bool = False) -> Place:
        """Find the place of a path, or of its nearest parent that was written."""
        if key and path in self.keys:
            return self.keys[path]
        while path and path not in self.places:
            path = path[:-1]
        return self.places.get(path, Place(self.name, 1, 1))

    def problem(self, path: TreePath, message: str, hint: str | None = None, *, key: bool = False) -> Problem:
        """Describe what is wrong at a path, with the line it stands on."""
        return Problem(message, self.place(path, key=key), hint, self.text)


def read(file: Path) -> Document:
    """Read a recipe file."""
    try:
        with file.open("rb") as stream:
            data = stream.read(MAX_BYTES + 1)
    except FileNotFoundError:
        raise RecipeError(f"{file}: no such file", hint="`compressit init` writes a recipe to start from") from None
    except OSError as error:
        raise RecipeError(f"{file}: {error.strerror or error}") from None
    if len(data) > MAX_BYTES:
        raise RecipeError(f"{file}: larger than {MAX_BYTES // 1024} KiB; a recipe is a small file")
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise RecipeError(f"{file}: not UTF-8 text (byte {error.start})") from None
    document = parse(text, str(file))
    if document.tree is None:
        raise RecipeProblems([document.problem((), "the file is empty")])
    return document


def parse(text: str, name: str) -> Document:
    """Parse the text of one YAML document."""
    document = Document(name, text, None)
    builder = _Builder(document)
    try:
        tree = builder.document(yaml.parse(text, Loader=yaml.SafeLoader))
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        place = Place(name, mark.line + 1, mark.column + 1) if mark else Place(name, 1, 1)
        said = " ".join(part for part in (error.context, error.problem) if part)
        raise RecipeProblems([Problem(f"not YAML: {said}", place, None, text)]) from None
    except yaml.YAMLError as error:
        line = text.count("\n", 0, getattr(error, "position", 0)) + 1
        raise RecipeProblems(
            [Problem("a character that YAML does not allow", Place(name, line, 1), None, "")]
        ) from None
    return replace(document, tree=tree)


def is_value(text: str) -> bool:
    """Tell whether text that isn't quoted is read as something else than text, or refused."""
    found = text in NULLS or text in WORDS or NOT_FINITE.fullmatch(text)
    return bool(found or INTEGER.fullmatch(text) or NUMBER.fullmatch(text))


def override(document: Document, assignments: tuple[str, ...], option: str = "--set") -> Document:
    """Apply `path.to.value=YAML` assignments, in order; later problems point at them, as given by an option."""
    for assignment in assignments:
        dotted, found, text = assignment.partition("=")
        origin = f"{option} {assignment}"
        if not dotted or not found:
            raise RecipeError(f"{origin}: expected path=value", hint=f"for example {option} steps.0.keep=3")
        if not text.strip():
            raise RecipeError(f"{origin}: there is no value", hint=f"null is none at all: {option} {dotted}=null")
        value = parse(text, origin)
        path: TreePath = tuple(int(part) if INDEX.fullmatch(part) else part for part in dotted.split("."))
        _assign(document.tree, path, value.tree, origin)
        here = Place(origin, 1, len(dotted) + 2)
        places = {key: place for key, place in document.places.items() if key[: len(path)] != path}
        places |= {(*path, *inner): here for inner in value.places}
        keys = {key: place for key, place in document.keys.items() if key[: len(path)] != path}
        keys |= {(*path, *inner): here for inner in value.keys} | {path: Place(origin, 1, 1)}
        document = replace(document, places=places, keys=keys, overrides=(*document.overrides, assignment))
    return document


def _assign(tree: Any, path: TreePath, value: Any, origin: str) -> None:
    for depth, part in enumerate(path):
        so_far = ".".join(map(str, path[: depth + 1]))
        last = depth == len(path) - 1
        if isinstance(tree, list):
            if not isinstance(part, int) or part >= len(tree):
                raise RecipeError(f"{origin}: there is no {so_far}; the list has {len(tree)} entries, counted from 0")
        elif isinstance(tree, dict):
            part = str(part)
            if not last and part not in tree:
                raise RecipeError(f"{origin}: there is no {so_far} in the recipe")
        else:
            raise RecipeError(f"{origin}: {'.'.join(map(str, path[:depth]))} holds a single value, not fields")
        if last:
            tree[part] = value
        else:
            tree = tree[part]


class _Builder:
    """Builds the values from events; knows how deep and how large the document has become."""

    def __init__(self, document: Document) -> None:
        self.at = document
        self.anchors: dict[str, tuple[Any, int]] = {}
        self.nodes = 0

    def document(self, events: Iterator[yaml.Event]) -> Any:
        tree: Any = None
        documents = 0
        for event in events:
            if isinstance(event, yaml.DocumentStartEvent):
                documents += 1
                if documents > 1:
                    raise self.refuse(event, "a second document; a recipe is one YAML document")
                tree = self.value(next(events), events, (), 0)
        if documents == 0:
            raise RecipeProblems([Problem("the file is empty", Place(self.at.name, 1, 1), None, "")])
        return tree

    def value(self, event: yaml.Event, events: Iterator[yaml.Event], path: TreePath, depth: int) -> Any:
        self.count(event, 1)
        if depth > MAX_DEPTH:
            raise self.refuse(event, f"nested more than {MAX_DEPTH} levels deep")
        if isinstance(event, yaml.AliasEvent):
            if event.anchor not in self.anchors:
                raise self.refuse(event, f"alias *{event.anchor} names nothing that is complete before it")
            value, size = self.anchors[event.anchor]
            self.count(event, size)
            self.at.places[path] = self.place(event)
            # A copy: an override of one place is not one of the other.
            return copy.deepcopy(value)
        tag: str | None = vars(event).get("tag")
        anchor: str | None = vars(event).get("anchor")
        if tag is not None:
            raise self.refuse(event, f"tag {tag!r}; recipes hold plain values only")
        self.at.places[path] = self.place(event)
        before = self.nodes
        value = self.content(event, events, path, depth)
        if anchor:
            self.anchors[anchor] = (value, self.nodes - before + 1)
        return value

    def content(self, event: yaml.Event, events: Iterator[yaml.Event], path: TreePath, depth: int) -> Any:
        if isinstance(event, yaml.ScalarEvent):
            return self.scalar(event)
        if isinstance(event, yaml.SequenceStartEvent):
            items: list[Any] = []
            while not isinstance(item := next(events), yaml.SequenceEndEvent):
                items.append(self.value(item, events, (*path, len(items)), depth + 1))
            return items
        mapping: dict[str, Any] = {}
        while not isinstance(key := next(events), yaml.MappingEndEvent):
            name = self.key(key)
            inner = (*path, name)
            if name in mapping:
                raise self.refuse(key, f"key {name!r} is here for the second time; first on line {self.line(inner)}")
            self.at.keys[inner] = self.place(key)
            mapping[name] = self.value(next(events), events, inner, depth + 1)
        return mapping

    def key(self, event: yaml.Event) -> str:
        self.count(event, 1)
        if not isinstance(event, yaml.ScalarEvent) or event.tag is not None:
            raise self.refuse(event, "a key must be plain text")
        if event.value == "<<" and event.style is None:
            raise self.refuse(event, "merge keys (<<) are not supported; write the fields out")
        return str(event.value)

    def scalar(self, event: yaml.ScalarEvent) -> Any:
        text = str(event.value)
        if event.style is not None or not is_value(text):
            return text
        if text in NULLS:
            return None
        if text in WORDS:
            return WORDS[text]
        if INTEGER.fullmatch(text):
            if len(text) > MAX_DIGITS:
                raise self.refuse(event, f"a number of {len(text)} digits", "quote it if it is text")
            return int(text)
        if NUMBER.fullmatch(text):
            number = float(text)
            if number in (float("inf"), float("-inf")):
                raise self.refuse(event, f"{text[:40]} is too large a number")
            return number
        raise self.refuse(event, f"{text} is not a number that a recipe can hold", "quote it if it is text")

    def count(self, event: yaml.Event, nodes: int) -> None:
        self.nodes += nodes
        if self.nodes > MAX_NODES:
            raise self.refuse(event, f"more than {MAX_NODES:,} values; a recipe is a small file")

    def place(self, event: yaml.Event) -> Place:
        mark = event.start_mark
        assert mark is not None, "events that are parsed have their place"
        return Place(self.at.name, mark.line + 1, mark.column + 1)

    def line(self, path: TreePath) -> int:
        return self.at.keys[path].line

    def refuse(self, event: yaml.Event, message: str, hint: str | None = None) -> RecipeProblems:
        return RecipeProblems([Problem(message, self.place(event), hint, self.at.text)])
