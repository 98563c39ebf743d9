"""Pick layers by glob patterns over their full names."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from fnmatch import fnmatchcase

from compressit.errors import RecipeError


def matching(
    names: Sequence[str], include: Sequence[str], exclude: Sequence[str], default: Callable[[str], bool]
) -> list[str]:
    """Pick names by glob patterns; a pattern that matches nothing is an error that shows some names.

    Args:
        names: What there is to pick from.
        include: Patterns of which one must match. Empty: `default(name)` decides.
        exclude: Patterns of which none may match.
        default: Called with a name when `include` is empty.
    """
    for pattern in (*include, *exclude):
        if not any(fnmatchcase(name, pattern) for name in names):
            raise RecipeError(f"pattern {pattern!r} matches no layer", hint=f"layers are named like {_sample(names)}")
    chosen = [
        name
        for name in names
        if (any(fnmatchcase(name, pattern) for pattern in include) if include else default(name))
        and not any(fnmatchcase(name, pattern) for pattern in exclude)
    ]
    if not chosen and not include and not any(map(default, names)):
        raise RecipeError(
            "the blocks hold no linear layer, and this step changes no other",
            hint="leave it out; prune_channels cuts between convolutions, an export with weights: int8 rounds them",
        )
    if not chosen:
        raise RecipeError("include and exclude leave no layer", hint=f"layers are named like {_sample(names)}")
    return chosen


def _sample(names: Sequence[str]) -> str:
    middle = list(names)[len(names) // 2 :][:2]
    return ", ".join(middle) if middle else "(none)"
