"""How pieces of text are written one after the other."""

from __future__ import annotations

import unicodedata


def spaced(before: str, after: str) -> bool:
    """Tell whether a space goes between two pieces that come without: not at a text's start, nor beside Chinese."""
    border = before[-1:] + after[:1]
    return bool(before) and not any(c.isspace() or unicodedata.east_asian_width(c) in "WF" for c in border)
