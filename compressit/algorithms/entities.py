"""Tags of words -> entities, in any of the schemes IOB, IOBES or BMES, BILOU, and plain names of types."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from itertools import pairwise

OUTSIDE = "O"
MARKED = re.compile(r"[BIESMLU]-.+")
"""How a tag says where in its entity it stands. Where none does, tags are names of types; else others are outside."""
MARKS: Mapping[str | None, Mapping[str, str]] = {
    None: {"M": "I", "L": "E", "U": "S"},
    "IOBES": {"M": "I", "L": "E", "U": "S"},
    "BILOU": {"M": "I", "E": "L", "S": "U"},
}
"""Letters that other schemes have for the same place."""


def spelled(names: Sequence[str], scheme: str | None = None) -> dict[str, str]:
    """Spell tags as seqeval knows them in a scheme; without one, by the letters B, I, E, S and O."""
    if not any(MARKED.fullmatch(name) for name in names):
        return {name: name if name == OUTSIDE else f"I-{name}" for name in names}
    marks = MARKS.get(scheme, {"M": "I"})
    marked = [name for name in names if MARKED.fullmatch(name)]
    return dict.fromkeys(names, OUTSIDE) | {name: marks.get(name[0], name[0]) + name[1:] for name in marked}


def spans(tags: Sequence[str]) -> list[tuple[str, int, int]]:
    """Read entities off the tags of one text, spelled by `spelled`, as conlleval and seqeval do.

    An entity ends after E and S, before B and S, and where the type changes, whether or not its tags keep to a scheme.

    Returns:
        Type, first and last word of each, in order.
    """
    parts = [(tag[0], tag[2:]) for tag in (OUTSIDE, *tags, OUTSIDE)]
    found, first = [], 0
    for place, ((mark, kind), (next_mark, next_kind)) in enumerate(pairwise(parts)):
        apart = kind != next_kind or OUTSIDE in (mark, next_mark) or mark in "ES" or next_mark in "BS"
        if not apart:
            continue
        if mark != OUTSIDE:
            found.append((kind, first, place - 1))
        first = place
    return found
