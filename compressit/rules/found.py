"""What a rule finds wrong: where, what, and what to do about it."""

from __future__ import annotations

from collections.abc import Iterator

TreePath = tuple[str | int, ...]
Found = Iterator[tuple[TreePath, str, str | None]]
