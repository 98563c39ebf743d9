"""What a language model makes of the next token."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, ClassVar

from compressit.algorithms.likelihood import NOT_SCORED
from compressit.outputs.output import Arrays, Asked, Change, Output

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

TOP = 5
"""Tokens named for each mask."""


@dataclass(frozen=True)
class TokenScores(Output):
    """What a language model made of the next token, summed over each example: its logits are too many to keep.

    Attributes:
        nll: (examples,), the negative log likelihood of the scored tokens, in nats.
        tokens: (examples,), how many were scored.
        correct: (examples,), how many of them were the likeliest.
        examples: (examples,), a hash of each example's tokens.
        agreed: (examples,), on how many the likeliest token was the original's too; None where nobody asked.
        divergence: (examples,), the sum of KL(original || this) in nats; None where nobody asked.
    """

    PAIRED: ClassVar[bool] = True

    nll: NDArray[np.float64]
    tokens: NDArray[np.int64]
    correct: NDArray[np.int64]
    examples: NDArray[np.uint64]
    agreed: NDArray[np.int64] | None = None
    divergence: NDArray[np.float64] | None = None

    @staticmethod
    def reduce(logits: NDArray[Any], labels: NDArray[Any], original: NDArray[Any] | None) -> Arrays:
        """Sum over each row's scored tokens; logits (B, L, V), labels (B, L) with -100 where nothing is scored."""
        from compressit.algorithms import likelihood

        return likelihood.sums(logits, labels, original)

    @property
    def weights(self) -> NDArray[np.int64]:
        """One prediction for each scored token."""
        return self.tokens

    def hits(self) -> NDArray[np.float64]:
        """Count the tokens that were found likeliest."""
        return self.correct.astype("float64")

    def agreements(self, original: TokenScores) -> NDArray[np.float64]:
        """Count the tokens on which both agree, as it was done batch by batch."""
        assert self.agreed is not None, "the run compares where a metric asks for it"
        return self.agreed.astype("float64")

    def worse(self, original: TokenScores) -> NDArray[np.float64]:
        """By how much the negative log likelihood of a scored token rose, in nats."""
        import numpy as np

        found: NDArray[np.float64] = np.maximum(self.nll - original.nll, 0) / np.maximum(self.tokens, 1)
        return found

    def change(self, original: TokenScores, place: int, names: Sequence[str], row: Mapping[str, Any] | None) -> Change:
        """Say how likely the scored tokens were found."""

        def said(by: TokenScores) -> str:
            tokens = int(by.tokens[place])
            mean = float(by.nll[place]) / max(tokens, 1)
            return f"{mean:.3f} nats a token, {int(by.correct[place]):,} of {tokens:,} tokens right"

        return Change("", said(original), said(self))

    def divergences(self, original: TokenScores) -> NDArray[np.float64]:
        """Give the sums that were made batch by batch."""
        assert self.divergence is not None, "the run compares where a metric asks for it"
        return self.divergence

    def compared_with_itself(self) -> TokenScores:
        """Agree on every token, and diverge on none."""
        import numpy as np

        return replace(self, agreed=self.tokens, divergence=np.zeros(len(self.tokens)))


@dataclass(frozen=True)
class MaskedTokens(TokenScores):
    """The same of the tokens that are masked in a text."""

    @staticmethod
    def reduce(logits: NDArray[Any], labels: NDArray[Any], original: NDArray[Any] | None) -> Arrays:
        """Sum over each row's masked tokens; logits (B, L, V), labels (B, L) with -100 where nothing is masked."""
        from compressit.algorithms import likelihood

        return likelihood.sums(logits, labels, original, ahead=0)

    @classmethod
    def kept(cls, logits: NDArray[Any], labels: NDArray[Any]) -> Mapping[str, Sequence[Any]]:
        """Keep the likeliest tokens of each masked place, and their probabilities: (B, L, V), (B, L)."""
        import numpy as np
        from scipy.special import softmax

        places = labels != NOT_SCORED
        shares = [softmax(row[own].astype(np.float64), axis=-1) for row, own in zip(logits, places, strict=True)]
        best = [np.argsort(-share, axis=-1, kind="stable")[:, :TOP] for share in shares]
        found = [np.take_along_axis(share, ids, -1) for share, ids in zip(shares, best, strict=True)]
        return {"tokens": best, "shares": found}

    @classmethod
    def spoken(cls, said: Mapping[str, Sequence[Any]], asked: Asked) -> list[dict[str, Any]]:
        """Give the likeliest tokens for each mask of a text, in the order of the masks."""
        masks: list[list[Any]] = [[] for _ in range(len(asked.rows))]
        for row, tokens, shares in zip(asked.prepared["row"], said["tokens"], said["shares"], strict=True):
            for ids, scores in zip(tokens, shares, strict=True):
                masks[row].append(
                    [{"token": asked.names[id], "score": float(score)} for id, score in zip(ids, scores, strict=True)]
                )
        return [{"masks": each} for each in masks]
