"""What is wrong with a recipe, where, and what to do: every message a person reads before any work starts."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

from compressit.errors import RecipeError
from compressit.spec import SIGNED_IN

SHOWN = 20
ARGUMENTS = ("--set ", "--matrix ")
"""How a place begins that is no file."""
CONTROL = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f]")


@dataclass(frozen=True, order=True)
class Place:
    """A file (or an argument such as `--set`), a line and a column, both counted from 1."""

    file: str
    line: int
    column: int

    def __str__(self) -> str:
        return self.file if self.file.startswith(ARGUMENTS) else f"{self.file}:{self.line}:{self.column}"


@dataclass(frozen=True)
class Problem:
    """One thing that is wrong."""

    message: str
    place: Place
    hint: str | None
    text: str

    def __str__(self) -> str:
        lines = [f"{clean(str(self.place))}: error: {clean(self.message)}", *self.excerpt()]
        if self.hint:
            lines.append(f"  hint: {clean(self.hint)}")
        return "\n".join(lines)

    def excerpt(self) -> list[str]:
        """Show the line, the one before it, and a mark under the column."""
        if self.place.file.startswith(ARGUMENTS):
            return []
        lines = self.text.split("\n")
        if not self.text or self.place.line > len(lines):
            return []
        first = max(1, self.place.line - 1)
        shown = [f"{number:>5} | {clean(lines[number - 1])[:160]}" for number in range(first, self.place.line + 1)]
        return [*shown, f"      | {' ' * min(self.place.column - 1, 160)}^"]


class RecipeProblems(RecipeError):
    """Everything that is wrong with a recipe, in the order of its lines."""

    def __init__(self, problems: Sequence[Problem]) -> None:
        self.problems = tuple(sorted(problems, key=lambda problem: problem.place))
        shown = [str(problem) for problem in self.problems[:SHOWN]]
        if len(self.problems) > SHOWN:
            shown.append(f"... and {len(self.problems) - SHOWN:,} more")
        super().__init__("\n".join(shown))


def clean(text: str) -> str:
    """Replace control characters, so that a recipe can't steer the terminal, and passwords in addresses."""
    return SIGNED_IN.sub(r"\1***@", CONTROL.sub("\N{REPLACEMENT CHARACTER}", text))
