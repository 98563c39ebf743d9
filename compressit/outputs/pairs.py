"""How alike a model finds the two texts of each example."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from compressit.outputs.output import Asked, Change, Output

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

    def worse(self, original: Pairs) -> NDArray[np.float64]:
        """By how many places, as a share of all, a pair's rank moved away from that of its score."""
        import numpy as np

        true, before, after = (_ranks(values) for values in (self.scores, original.cosines, self.cosines))
        found: NDArray[np.float64] = np.maximum(np.abs(after - true) - np.abs(before - true), 0) / max(len(true), 1)
        return found

    def change(self, original: Pairs, place: int, names: Sequence[str], row: Mapping[str, Any] | None) -> Change:
        """Give the cosines, and the ranks by which they are judged."""

        def ranked(values: NDArray[np.float64]) -> str:
            return f"rank {_ranks(values)[place]:,.0f} of {len(values):,}"

        return Change(
            f"score {self.scores[place]:g}, {ranked(self.scores)}",
            f"cosine {original.cosines[place]:.3f}, {ranked(original.cosines)}",
            f"cosine {self.cosines[place]:.3f}, {ranked(self.cosines)}",
        )

    @classmethod
    def spoken(cls, said: Mapping[str, Sequence[Any]], asked: Asked) -> list[dict[str, Any]]:
        """Give the cosine of the two texts' vectors, or a lone text's vector."""
        if "vectors" in said:
            return [{"vector": [float(value) for value in vector]} for vector in said["vectors"]]
        return [{"cosine": float(cosine)} for cosine in said["cosines"]]

    @classmethod
    def kept(cls, logits: NDArray[Any], labels: NDArray[Any]) -> Mapping[str, Sequence[Any] | NDArray[Any]]:
        """Keep the vectors where each row is one text, and the cosines of pairs: (rows or 2 x rows, D), (rows,)."""
        return {"vectors": logits} if len(logits) == len(labels) else cls.reduce(logits, labels, None)

    @property
    def weights(self) -> NDArray[np.int64]:
        """One figure for each example."""
        import numpy as np

        return np.ones(len(self.scores), dtype=np.int64)


def _ranks(values: NDArray[np.float64]) -> NDArray[np.float64]:
    """Rank values from the most alike, 1, down; equal ones share the mean of their ranks."""
    from scipy.stats import rankdata

    found: NDArray[np.float64] = rankdata(-values)
    return found
