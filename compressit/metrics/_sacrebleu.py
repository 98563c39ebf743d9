"""What sacrebleu's metrics share: their counts example by example, and what these come to when they are added up.

Post 2018, arXiv:1804.08771. The library extracts the counts and computes the figure, so that both are its own; what is
done here is to add up, again and again where examples are resampled.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from compressit import machine
from compressit.metrics import Evidence, Texts

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

LIBRARY = {"sacrebleu": "tasks"}


def scorer(name: str, settings: Mapping[str, Any]) -> Any:
    """Make a scorer of the library's, by the name of its class."""
    machine.need(LIBRARY)
    from sacrebleu import metrics

    return getattr(metrics, name)(**settings)


def sums(evidence: Evidence, by: Any) -> NDArray[np.float64]:
    """Count what the figure is made of, for each example: (examples, k)."""
    import numpy as np

    said = evidence.said(Texts)
    return np.array(by._extract_corpus_statistics(said.texts, [said.references]), dtype=np.float64)


def figure(total: NDArray[np.float64], by: Any) -> float:
    """Compute the figure from added counts."""
    return float(by._compute_score_from_stats(total.astype(int).tolist()).score)


def signature(by: Any) -> str:
    """Give the library's own description of what was computed, which makes figures comparable."""
    by.num_refs = 1
    return f"sacrebleu {by.get_signature().format()}"
