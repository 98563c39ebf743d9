"""Small pictures of examples, made of their pixels alone: nothing else that a file held comes along."""

from __future__ import annotations

import base64
import io
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from PIL.Image import Image

SIDE = 96
"""Pixels of the longer side at most."""
EXACT = 32
"""Up to so many, pixels are kept as they are, and shown larger."""
SHOWN = 64
LARGEST = 12_000
"""Bytes of one picture; a page can hold many."""


@dataclass(frozen=True)
class Picture:
    """A picture for a page.

    Attributes:
        source: A data: URI.
        width: Pixels on the page.
        height: Likewise.
        enlarged: Whether each of its own pixels covers several.
    """

    source: str
    width: int
    height: int
    enlarged: bool = False


def picture(image: Image) -> Picture | None:
    """Make a small picture of what a model saw; None where it has no pixels, or can't be made small enough."""
    from PIL import Image as images

    if not min(image.size):
        return None
    pixels = image.convert("RGB")
    pixels.thumbnail((SIDE, SIDE))
    # Of bytes: comments, profiles and whatever else the file held stay behind.
    bare = images.frombytes("RGB", pixels.size, pixels.tobytes())
    longer = max(bare.size)
    if longer <= EXACT:
        times = max(1, SHOWN // longer)
        return _of("png", _encoded(bare, "PNG"), bare.width * times, bare.height * times, enlarged=times > 1)
    for quality in (80, 40):
        found = _encoded(bare, "JPEG", quality=quality)
        if len(found) <= LARGEST:
            return _of("jpeg", found, *bare.size)
    return None


def _encoded(image: Image, kind: str, **options: int) -> bytes:
    held = io.BytesIO()
    image.save(held, kind, **options)
    return held.getvalue()


def _of(kind: str, held: bytes, width: int, height: int, *, enlarged: bool = False) -> Picture:
    return Picture(f"data:image/{kind};base64,{base64.b64encode(held).decode()}", width, height, enlarged)
