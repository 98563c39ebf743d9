"""The base of everything a recipe can hold: frozen, strict, no unknown keys, documented by its own docstrings."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Self

from pydantic import AfterValidator, BaseModel, ConfigDict, ValidationError, model_validator
from pydantic_core import InitErrorDetails, PydanticCustomError

SIGNED_IN = re.compile(r"(\b\w{1,20}://)[^/@\s]+@")
"""The beginning of an address that holds a name or a password; bounded, for text may be long."""
IDLE = "idle"
"""The kind of error that says that a field does nothing beside the others."""


class Spec(BaseModel):
    """A part of a recipe."""

    model_config = ConfigDict(
        frozen=True, strict=True, extra="forbid", allow_inf_nan=False, use_attribute_docstrings=True
    )

    def idle(self) -> Mapping[str, str]:
        """Name the fields that do nothing beside the others as they are set, and what each of them goes with."""
        return {}

    @model_validator(mode="after")
    def _ignores_nothing(self) -> Self:
        """Refuse a field that somebody has set and nothing will read."""
        told = {name: needs for name, needs in self.idle().items() if self.says(name)}
        if told:
            raise ValidationError.from_exception_data(
                type(self).__name__,
                [
                    InitErrorDetails(
                        type=PydanticCustomError(IDLE, "{said}", {"said": idling(name, needs)}),
                        loc=(name,),
                        input=getattr(self, name),
                    )
                    for name, needs in told.items()
                ],
            )
        return self

    def says(self, name: str) -> bool:
        """Say whether a field was set; null leaves it out."""
        return name in self.model_fields_set and getattr(self, name) is not None


def idling(name: str, needs: str) -> str:
    """Say that a field does nothing without what it goes with."""
    return f"{name} goes with {needs}, and does nothing without"


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
