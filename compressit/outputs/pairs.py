"""How alike a model finds the two texts of each example."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from compressit.outputs.output import Output

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray


@dataclass(frozen=True)
class Pairs(Output):
    """One figure for each pair of texts.

    Attributes:
        cosines: (examples,), of the two texts' vectors.
        scores: (examples,), how alike people found them.
        examples: (examples,), a hash of each example's content.
    """

    cosines: NDArray[np.float64]
    scores: NDArray[np.float64]
    examples: NDArray[np.uint64]

    @staticmethod
    def reduce(
        logits: NDArray[Any], labels: NDArray[Any], original: NDArray[Any] | None
    ) -> Mapping[str, Sequence[Any] | NDArray[Any]]:
        """Take the cosine of each vector and the one after it: (2 x pairs, D), (pairs,)."""
        import numpy as np

        first, second = logits[0::2].astype(np.float64), logits[1::2].astype(np.float64)
        lengths = np.linalg.norm(first, axis=-1) * np.linalg.norm(second, axis=-1)
        cosines = (first * second).sum(-1) / np.maximum(lengths, np.finfo(np.float64).tiny)
        return {"cosines": cosines, "scores": labels.astype(np.float64)}

    @property
    def weights(self) -> NDArray[np.int64]:
        """One figure for each example."""
        import numpy as np

        return np.ones(len(self.scores), dtype=np.int64)
