"""ROUGE, as rouge_score computes it: F1 of what a summary and its reference have in common; a mean over examples.

Lin 2004. rouge1 and rouge2 count words and pairs of them, rougeL the longest common subsequence of words, and rougeLsum
the union of those of all lines. The others stand beside the one that is judged.
"""

from __future__ import annotations

import functools
import re
from collections.abc import Mapping
from importlib.metadata import version as installed
from typing import TYPE_CHECKING, Any, Literal, get_args

from compressit.metrics import Evidence, Kind, MetricConfig, Texts

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

KIND = Kind.MEAN
BETTER = "higher"
UNIT = ""
READS = (Texts,)
RANGE = (0, 1)

Variant = Literal["rouge1", "rouge2", "rougeL", "rougeLsum"]
VARIANTS: tuple[Variant, ...] = get_args(Variant)
ALONE = r"\u3040-\u30ff\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff"
WORD = re.compile(rf"[{ALONE}]|[^\W_{ALONE}]+")
"""A word of any script; kana and Chinese characters each by itself."""
LATIN = re.compile("[a-z]")
KEPT = 1 << 16
"""Pairs of texts whose scores are remembered: a report asks for them again and again."""


class Config(MetricConfig):
    """Fields of the metric."""

    variant: Variant = "rougeL"
    """Which of them."""
    stemmer: bool = True
    """Take words of one stem for the same, as published figures do; English only."""
    words: Literal["english", "any"] | None = None
    """What counts as a word: `english` ones, rouge_score's own, are of the letters a to z and digits; `any` takes every
    script's, unstemmed, and each Chinese character for one (default: `english` where most letters of a reference are
    of a to z)."""

    def idle(self) -> Mapping[str, str]:
        """Name what words of any script have not."""
        return {"stemmer": "words: english"} if self.words == "any" else {}

    def packages(self) -> dict[str, str]:
        """Name what computes it."""
        return {"rouge_score": "tasks"}


def per_example(evidence: Evidence, config: Config) -> NDArray[np.float64]:
    """Give each example's F1: (examples,)."""
    return _all(evidence, config)[:, VARIANTS.index(config.variant)]


def measure(evidence: Evidence, config: Config) -> float:
    """Average over the evaluation split."""
    return float(per_example(evidence, config).mean())


def details(evidence: Evidence, config: Config) -> dict[str, float]:
    """Give the others."""
    means = _all(evidence, config).mean(0).tolist()
    return {name: mean for name, mean in zip(VARIANTS, means, strict=True) if name != config.variant}


def described(config: Config) -> str:
    """Say which version of the library it is, and what it takes for words."""
    stems = "stemmed" if config.stemmer and config.words != "any" else "unstemmed"
    words = config.words or "english or any script's"
    return f"{config.variant}, {words} words, {stems}, rouge_score {installed('rouge_score')}"


def _all(evidence: Evidence, config: Config) -> NDArray[np.float64]:
    """Score each example: (examples, variants)."""
    import numpy as np

    said = evidence.said(Texts)
    pairs = zip(said.texts, said.references, strict=True)
    found = [_scores(text, true, config.stemmer, config.words) for text, true in pairs]
    return np.array(found, dtype=np.float64).reshape(-1, len(VARIANTS))


@functools.lru_cache(maxsize=KEPT)
def _scores(text: str, true: str, stemmer: bool, words: str | None) -> tuple[float, ...]:
    found = _scorer(stemmer, words or _script(true)).score(true, text)
    return tuple(float(found[name].fmeasure) for name in VARIANTS)


def _script(text: str) -> str:
    letters = sum(character.isalpha() for character in text)
    return "english" if 2 * len(LATIN.findall(text.lower())) >= letters else "any"


@functools.cache
def _scorer(stemmer: bool, words: str) -> Any:
    from rouge_score.rouge_scorer import RougeScorer

    return RougeScorer(list(VARIANTS), use_stemmer=stemmer, tokenizer=_AnyScript() if words == "any" else None)


class _AnyScript:
    """Cuts texts as rouge_score's own tokenizers do, but in every script."""

    def tokenize(self, text: str) -> list[str]:
        return WORD.findall(text.lower())
