"""BLEU, from 0 to 100, as sacrebleu computes it: how many n-grams of the translations are in their references.

Papineni et al. 2002; Post 2018, arXiv:1804.08771. A figure of all examples together, whose signature is in the report.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

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

    tokenize: Literal["13a", "intl", "zh", "char", "none"] = "13a"
    """How texts are cut into words, as sacrebleu calls it: `zh` for Chinese, `char` where words have no spaces."""
    lowercase: bool = False
    """Take capitals for small letters."""

    def packages(self) -> dict[str, str]:
        """Name what computes it."""
        return _sacrebleu.LIBRARY


def sums(evidence: Evidence, config: Config) -> NDArray[np.float64]:
    """Count each example's lengths and n-grams: (examples, 10)."""
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
    return _sacrebleu.scorer("BLEU", {"tokenize": config.tokenize, "lowercase": config.lowercase, "force": True})
