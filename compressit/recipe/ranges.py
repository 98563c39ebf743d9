"""What a recipe leaves open for `compressit search` to fill in.

::

    steps:
      - step: prune_ffn
        sparsity: {search: [0.2, 0.6]}                 # any number between, or a whole number where both ends are
      - step: distill
        learning_rate: {search: [1e-5, 1e-3], scale: log}
        temperature: {choose: [1.0, 2.0, 4.0]}         # one of these
        optional: true                                 # or no such step at all
        lora: {rank: {search: [4, 32], scale: log}}    # what a field holds, too
"""

from __future__ import annotations

import copy
import json
import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any

from compressit.recipe.document import Document, TreePath
from compressit.recipe.problems import Problem, RecipeProblems

ROOMS = ("steps", "exports")
"""Lists whose entries may hold ranges."""
RANGE, CHOICES, SCALE, OPTIONAL = "search", "choose", "scale", "optional"
SCALES = ("linear", "log")


@dataclass(frozen=True)
class Range:
    """A value that is left open.

    Attributes:
        path: Where it stands in the document.
        choices: What it may be; empty for a number between two ends.
        low: Least number.
        high: Greatest number.
        log: Whether small numbers are looked at as closely as large ones.
    """

    path: TreePath
    choices: tuple[Any, ...] = ()
    low: float = 0
    high: float = 0
    log: bool = False

    @property
    def name(self) -> str:
        """What it goes by, as `--set` has it; an optional step goes by steps.2.optional."""
        return ".".join(map(str, self.path))

    @property
    def whole(self) -> bool:
        """Whether it is a whole number."""
        return isinstance(self.low, int) and isinstance(self.high, int)

    def ends(self) -> tuple[Any, ...]:
        """Give the values that a check of the recipe tries."""
        return self.choices or (self.low, self.high)

    def rounded(self, value: float) -> float:
        """Round a number to what is worth telling apart: some fiftieth of the range, or two digits on a log scale."""
        if self.whole:
            return round(value)
        least = value / 10 if self.log else (self.high - self.low) / 50
        found = round(value, -math.floor(math.log10(least)))
        return min(max(found, self.low), self.high)


def find(document: Document) -> tuple[Range, ...]:
    """Find what a document leaves open, in its order.

    Raises:
        RecipeProblems: a range is not written as it should be.
    """
    problems: list[Problem] = []
    found = list(_open(document, problems))
    if problems:
        raise RecipeProblems(problems)
    return tuple(found)


def refuse(document: Document) -> None:
    """Refuse ranges where a single value is wanted.

    Raises:
        RecipeProblems: there are some.
    """
    if left := find(document):
        hint = "compressit search fills it in; or give it one value: --set {}={}"
        raise RecipeProblems(
            [
                document.problem(
                    each.path, f"{each.name} is left open", hint.format(each.name, json.dumps(each.ends()[-1]))
                )
                for each in left
            ]
        )


def filled(document: Document, values: Mapping[str, Any]) -> Document:
    """Fill in what is left open, and leave out the optional steps that are not wanted.

    Args:
        document: With ranges.
        values: One for each range, by its name.
    """
    tree = copy.deepcopy(document.tree)
    left_out: dict[str, list[int]] = {}
    for each in find(document):
        value = values[each.name]
        *outer, last = each.path
        inner = tree
        for part in outer:
            inner = inner[part]
        if last == OPTIONAL:
            del inner[OPTIONAL]
            if not value:
                left_out.setdefault(str(outer[0]), []).append(int(outer[1]))
        else:
            inner[last] = value
    for room, indices in left_out.items():
        tree[room] = [entry for index, entry in enumerate(tree[room]) if index not in indices]
    return replace(document, tree=tree, places=_moved(document.places, left_out), keys=_moved(document.keys, left_out))


def _open(document: Document, problems: list[Problem]) -> Iterator[Range]:
    tree = document.tree if isinstance(document.tree, dict) else {}
    for room in ROOMS:
        entries = tree.get(room)
        for index, entry in enumerate(entries if isinstance(entries, list) else ()):
            if not isinstance(entry, dict):
                continue
            if OPTIONAL in entry:
                path: TreePath = (room, index, OPTIONAL)
                if entry[OPTIONAL] is not True:
                    problems.append(document.problem(path, "optional: expected true", "leave it out otherwise"))
                yield Range(path, (True, False))
            yield from _inside(document, (room, index), entry, problems)


def _inside(document: Document, path: TreePath, value: Any, problems: list[Problem]) -> Iterator[Range]:
    """Look at every field that a mapping has, or the mappings in it and in its lists have."""
    fields = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for field, inner in fields:
        where = (*path, field)
        if isinstance(value, dict) and isinstance(inner, dict) and {RANGE, CHOICES} & inner.keys():
            read = _read(where, inner)
            if isinstance(read, str):
                problems.append(document.problem(where, f"{'.'.join(map(str, where[2:]))}: {read}"))
            else:
                yield read
        else:
            yield from _inside(document, where, inner, problems)


def _read(path: TreePath, written: Mapping[str, Any]) -> Range | str:
    """Read a range; or say what is wrong with it."""
    kind = RANGE if RANGE in written else CHOICES
    values, scale = written[kind], written.get(SCALE, SCALES[0])
    if unknown := written.keys() - {kind, SCALE}:
        return f"unknown key {min(map(str, unknown))!r}; expected {{search: [LOW, HIGH]}} or {{choose: [A, B, ...]}}"
    if scale not in SCALES:
        return f"scale: expected {' or '.join(SCALES)}"
    if not isinstance(values, list) or len(values) < 2:
        return f"{kind}: expected a list of two values or more"
    numbers = all(isinstance(value, int | float) and not isinstance(value, bool) for value in values)
    if kind == CHOICES or len(values) > 2 or not numbers:
        if SCALE in written:
            return "scale: is for a range of numbers, and these are single values"
        if any(value in values[:place] for place, value in enumerate(values)):
            return f"{kind}: a value stands there twice"
        return Range(path, tuple(values))
    low, high = values
    if low >= high:
        return f"search: expected the lower end first, not [{low}, {high}]"
    if scale == "log" and low <= 0:
        return f"scale: log needs numbers above 0, not {low}"
    return Range(path, low=low, high=high, log=scale == "log")


def _moved(places: Mapping[TreePath, Any], left_out: Mapping[str, list[int]]) -> dict[TreePath, Any]:
    """Give what stands at each path its new path, where entries before it were left out."""
    moved: dict[TreePath, Any] = {}
    for path, place in places.items():
        gone = left_out.get(str(path[0]), []) if len(path) > 1 else []
        if len(path) > 1 and path[1] in gone:
            continue
        before = sum(1 for index in gone if isinstance(path[1], int) and index < path[1])
        moved[(path[0], path[1] - before, *path[2:]) if before and isinstance(path[1], int) else path] = place
    return moved
