"""The checkpoints of finished steps, each under the SHA-256 of all that made it.

No name and no time is part of a key. So two recipes with the same first steps share them, wherever they lie, and what
differs in the least is made anew.
"""

from __future__ import annotations

from compressit.cache.entries import Entry, collect, entries, find, kept, place, put, remove
from compressit.cache.keys import Content, Made, chain, key
from compressit.cache.why import began_alike, differences, nearest

__all__ = [
    "Content", "Entry", "Made", "began_alike", "chain", "collect", "differences", "entries", "find", "kept", "key",
    "nearest", "place", "put", "remove",
]  # fmt: skip
