"""More texts to be taught on, made from those there are: words masked, or a few neighbouring words alone.

Tang et al. 2019, arXiv:1903.12136, section 3.2, without its replacement by part of speech.
"""

from __future__ import annotations

import math
import random
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from compressit.data.labels import UNLABELLED

if TYPE_CHECKING:
    from datasets import Dataset

TEXTS = ("text", "text_pair")
MASKED = 0.1
"""Share of words that are masked."""
SNIPPED = 0.25
"""Share of texts of which a few words are left alone."""
LONGEST = 5
"""Words of such a snippet, at most."""


def augmented(rows: Dataset, copies: int, mask: str | None, seed: int) -> Dataset:
    """Give the rows, and behind them `copies` changed ones of each, without labels.

    Args:
        rows: With a column `text`, and `text_pair` for pairs.
        copies: How many of each row.
        mask: What stands for a masked word; None leaves the word out.
        seed: Of what is masked and snipped.
    """
    import datasets

    draw = random.Random(seed)
    columns = {name: list(rows[name]) * copies for name in rows.column_names}
    for name in TEXTS:
        if name in columns:
            columns[name] = [changed(text, mask, draw) for text in columns[name]]
    if "label" in columns:
        columns["label"] = [UNLABELLED] * len(columns["label"])
    if "score" in columns:
        columns["score"] = [math.nan] * len(columns["score"])
    made: Any = datasets.Dataset.from_dict(columns, features=rows.features)
    found: Dataset = datasets.concatenate_datasets([rows, made])
    return found


def changed(text: str, mask: str | None, draw: random.Random) -> str:
    """Mask words of a text at random, or keep a few neighbouring ones. Characters are the words of an unspaced text."""
    words: Sequence[str] = text.split()
    between = " " if len(words) > 1 or text.isascii() else ""
    words = words if between else list(text)
    if draw.random() < SNIPPED:
        count = min(len(words), draw.randint(1, LONGEST))
        start = draw.randint(0, len(words) - count)
        words = words[start : start + count]
    kept = [word if draw.random() >= MASKED else mask for word in words]
    # A text of nothing would teach nothing.
    return between.join(word for word in kept if word) or text
