"""The base of everything a recipe can hold: frozen, strict, no unknown keys, documented by its own docstrings."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Annotated

from pydantic import AfterValidator, BaseModel, ConfigDict

SIGNED_IN = re.compile(r"(\b\w{1,20}://)[^/@\s]+@")
"""The beginning of an address that holds a name or a password; bounded, for text may be long."""


class Spec(BaseModel):
    """A part of a recipe."""

    model_config = ConfigDict(
        frozen=True, strict=True, extra="forbid", allow_inf_nan=False, use_attribute_docstrings=True
    )


def _printable(path: str) -> str:
    if SIGNED_IN.search(path):
        raise ValueError("an address with a name or a password in it; results would tell it to whoever reads them")
    if not 0 < len(path) <= 1000 or not path.isprintable():
        raise ValueError(
            f"{path[:40]!r} can't be the name of a place: it is empty, too long or holds control characters"
        )
    return path


Location = Annotated[str, AfterValidator(_printable)]
"""A path on disk, a hub id, or demo:NAME."""


def home(path: str) -> Path:
    """Resolve a leading ~; the home of somebody who doesn't exist stays as it is written."""
    try:
        return Path(path).expanduser()
    except RuntimeError:
        return Path(path)
