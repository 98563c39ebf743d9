"""chrF, from 0 to 100, as sacrebleu computes it: F of the characters' n-grams that translations and references share.

Popović 2015. With `word_order: 2` it is chrF++. A figure of all examples together, whose signature is in the report.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from pydantic import Field

from compressit.metrics import Evidence, Kind, MetricConfig, Texts, _sacrebleu

if TYPE_CHECKING:
    from typing import Any

    import numpy as np
    from numpy.typing import NDArray

KIND = Kind.CORPUS
BETTER = "higher"
UNIT = ""
READS = (Texts,)
RANGE = (0, 100)


class Config(MetricConfig):
    """Fields of the metric."""

    word_order: int = Field(0, ge=0, le=4)
    """Length of the longest n-grams of words that count too; 2 is chrF++."""
    lowercase: bool = False
    """Take capitals for small letters."""

    def packages(self) -> dict[str, str]:
        """Name what computes it."""
        return _sacrebleu.LIBRARY


def sums(evidence: Evidence, config: Config) -> NDArray[np.float64]:
    """Count each example's n-grams, of the translation, of its reference and of both: (examples, 3 x orders)."""
    return _sacrebleu.sums(evidence, _scorer(config))


def figure(total: NDArray[np.float64], config: Config) -> float:
    """Compute it from added counts."""
    return _sacrebleu.figure(total, _scorer(config))


def measure(evidence: Evidence, config: Config) -> float:
    """Compute it over the evaluation split."""
    return figure(sums(evidence, config).sum(0), config)


def described(config: Config) -> str:
    """Give sacrebleu's signature."""
    return _sacrebleu.signature(_scorer(config))


def _scorer(config: Config) -> Any:
    return _sacrebleu.scorer("CHRF", {"word_order": config.word_order, "lowercase": config.lowercase})
