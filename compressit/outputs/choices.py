"""Which of several texts a language model finds likeliest."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from string import ascii_uppercase
from typing import TYPE_CHECKING, Any

from compressit.outputs.output import OUT_OF_REACH, Arrays, Change
from compressit.outputs.predictions import Predictions

if TYPE_CHECKING:
    from datasets import Dataset
    from numpy.typing import NDArray


@dataclass(frozen=True)
class Choices(Predictions):
    """One of its own choices for each example; `logits` are how likely it found each, `labels` the place of the right.

    Examples with fewer choices than others have `OUT_OF_REACH` for the rest.
    """

    @staticmethod
    def reduce(logits: NDArray[Any], labels: NDArray[Any], original: NDArray[Any] | None) -> Arrays:
        """Sum the log likelihoods of each choice's tokens; logits (B, L, V), labels (B, L), -100 but for the choice."""
        from compressit.algorithms import likelihood

        return {"scores": -likelihood.sums(logits, labels)["nll"]}

    @classmethod
    def gather(
        cls, said: Mapping[str, Sequence[Any]], prepared: Dataset, rows: Dataset, names: Sequence[str]
    ) -> Arrays:
        """Put the choices of each example side by side, each score over its length."""
        import numpy as np

        logits = np.full((len(rows), max(map(len, rows["choices"]))), OUT_OF_REACH, dtype=np.float32)
        done = [0] * len(rows)
        for score, owner, length in zip(said["scores"], prepared["example"], prepared["length"], strict=True):
            logits[owner, done[owner]] = score / length
            done[owner] += 1
        arrays: Arrays = {"logits": logits, "labels": np.array(rows["answer"], dtype=np.int64)}
        return arrays | cls.grouped(rows)

    def change(self, original: Predictions, place: int, names: Sequence[str], row: Mapping[str, Any] | None) -> Change:
        """Quote the choices where the row is at hand, else give their letters, with the probability of each."""
        texts = (row or {}).get("choices") or ascii_uppercase
        return super().change(original, place, list(texts), row)
