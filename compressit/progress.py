"""How long work says how far it is; the command line decides how that looks."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import Protocol

Advance = Callable[[int], None]


class Progress(Protocol):
    """What a step may tell the person who waits."""

    def say(self, text: str) -> None:
        """Tell that a new piece of work has begun."""

    def bar(self, label: str, total: int) -> AbstractContextManager[Advance]:
        """Open a bar of `total` units; call what it gives with the units done since the last call."""


class Silent:
    """Tell nothing."""

    def say(self, text: str) -> None:
        """Drop the line."""

    @contextmanager
    def bar(self, label: str, total: int) -> Iterator[Advance]:
        """Drop the bar."""
        yield lambda done: None
