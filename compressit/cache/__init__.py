"""The checkpoints of finished steps and the exports of originals, each under the SHA-256 of all that made it.

No name and no time is part of a key. So two recipes with the same first steps share them, wherever they lie, and what
differs in the least is made anew.
"""

from __future__ import annotations

from compressit.cache.entries import Entry, collect, entries, find, kept, place, put, remove, take
from compressit.cache.keys import Content, Made, chain, exported, key
from compressit.cache.why import began_alike, differences, nearest

__all__ = [
    "Content", "Entry", "Made", "began_alike", "chain", "collect", "differences", "entries", "exported", "find", "kept",
    "key", "nearest", "place", "put", "remove", "take",
]  # fmt: skip
