"""Answers to questions: the best span of a window, and how near a text comes to the true ones.

Texts are compared as SQuAD's own evaluation does (version 2.0): in small letters, without punctuation, articles and
extra spaces; F1 is over words. Where a language is written without spaces, it is MLQA's (Lewis et al. 2020,
arXiv:1910.07475): each character counts as a word, and punctuation is whatever Unicode calls so.
"""

from __future__ import annotations

import re
import string
import unicodedata
from collections import Counter
from collections.abc import Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

ARTICLES = re.compile(r"\b(a|an|the)\b")
PUNCTUATION = frozenset(string.punctuation)
UNSPACED = re.compile(r"[\u3040-\u30ff\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff\U00020000-\U0003ffff]")
"""Kana and Chinese characters."""


def best_span(starts_L: NDArray[np.float32], ends_L: NDArray[np.float32], longest: int) -> tuple[float, int, int]:
    """Find the span of the greatest start + end, of all that end where they start or up to `longest` - 1 places later.

    Of equal ones the shortest counts, then the first.

    Returns:
        Its score, and its first and its last place.
    """
    import numpy as np

    best = (-np.inf, 0, 0)
    for more in range(min(longest, len(starts_L))):
        scores = starts_L[: len(starts_L) - more] + ends_L[more:]
        first = int(scores.argmax())
        if scores[first] > best[0]:
            best = (float(scores[first]), first, first + more)
    return best


def unspaced(text: str) -> bool:
    """Tell whether a text is in a language that puts no spaces between words: most of its letters are of such a one."""
    letters = sum(character.isalpha() for character in text)
    return letters > 0 and 2 * len(UNSPACED.findall(text)) > letters


def words(text: str, *, characters: bool) -> list[str]:
    """Give what is compared of an answer, in order; `characters` for a language without spaces."""
    lower = text.lower()
    if characters:
        kept = "".join(c for c in lower if c not in PUNCTUATION and not unicodedata.category(c).startswith("P"))
        return UNSPACED.sub(lambda found: f" {found[0]} ", kept).split()
    kept = "".join(c for c in lower if c not in PUNCTUATION)
    return ARTICLES.sub(" ", kept).split()


def scores(said: str, true: Sequence[str], *, characters: bool) -> tuple[float, float]:
    """Compare an answer with the true ones, of which the nearest counts; none is true where there is no answer.

    Returns:
        1 where it is one of them, else 0; and the greatest F1.
    """
    own = words(said, characters=characters)
    wanted = [found for each in true if (found := words(each, characters=characters))] or [[]]
    return float(own in wanted), max(_f1(own, each) for each in wanted)


def _f1(said: Sequence[str], true: Sequence[str]) -> float:
    if not said or not true:
        return float(said == true)
    same = sum((Counter(said) & Counter(true)).values())
    return 2 * same / (len(said) + len(true))
