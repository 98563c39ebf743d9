"""What a model said of each example, reduced to what metrics read; a task names its kind of output."""

from __future__ import annotations

from dataclasses import dataclass, fields, replace
from typing import TYPE_CHECKING, Any, ClassVar, Self

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

Arrays = dict[str, "NDArray[Any]"]


@dataclass(frozen=True)
class Output:
    """Arrays that have a row for each example.

    Attributes:
        PAIRED: Whether closeness to the original is found batch by batch, with both models' logits at hand.
    """

    PAIRED: ClassVar[bool] = False

    @staticmethod
    def reduce(logits: NDArray[Any], labels: NDArray[Any], original: NDArray[Any] | None) -> Arrays:
        """Reduce one batch: its logits, its labels, and the original's logits where the two are compared."""
        raise NotImplementedError

    @classmethod
    def empty(cls) -> Self:
        """Give the output of no examples."""
        import numpy as np

        return cls(**{field.name: np.empty(0) for field in fields(cls)})

    @property
    def weights(self) -> NDArray[np.int64]:
        """How many predictions each example holds: (examples,)."""
        raise NotImplementedError

    def agreements(self, original: Self) -> NDArray[np.float64]:
        """On how many of its predictions each example agrees with the original: (examples,)."""
        raise NotImplementedError

    def divergences(self, original: Self) -> NDArray[np.float64]:
        """KL(original || this) in nats, summed over each example's predictions: (examples,)."""
        raise NotImplementedError

    def compared_with_itself(self) -> Self:
        """Give the output that closeness to the original is complete in, where this is the original's own."""
        return self

    def arrays(self) -> Arrays:
        """Give the arrays by name, to be saved."""
        return {field.name: held for field in fields(self) if (held := getattr(self, field.name)) is not None}

    def __len__(self) -> int:
        """How many examples there are."""
        return len(next(iter(self.arrays().values())))

    def take(self, indices: NDArray[np.int64]) -> Self:
        """Keep the examples at `indices`, which may repeat."""
        return replace(self, **{name: held[indices] for name, held in self.arrays().items()})


@dataclass(frozen=True)
class Predictions(Output):
    """One class for each example.

    Attributes:
        logits: (examples, classes).
        labels: (examples,), the model's ids.
        examples: (examples,), a hash of each example's content.
    """

    logits: NDArray[np.float32]
    labels: NDArray[np.int64]
    examples: NDArray[np.uint64]

    @staticmethod
    def reduce(logits: NDArray[Any], labels: NDArray[Any], original: NDArray[Any] | None) -> Arrays:
        """Keep the logits: classes are few."""
        return {"logits": logits, "labels": labels}

    @property
    def choices(self) -> NDArray[np.int64]:
        """The class chosen for each example."""
        chosen: NDArray[np.int64] = self.logits.argmax(-1)
        return chosen

    @property
    def weights(self) -> NDArray[np.int64]:
        """One prediction for each example."""
        import numpy as np

        return np.ones(len(self.labels), dtype=np.int64)

    def agreements(self, original: Predictions) -> NDArray[np.float64]:
        """1 where both choose the same class."""
        same: NDArray[np.float64] = (self.choices == original.choices).astype("float64")
        return same

    def divergences(self, original: Predictions) -> NDArray[np.float64]:
        """KL of the class probabilities."""
        import numpy as np
        from scipy.special import log_softmax

        before = log_softmax(original.logits.astype(np.float64), axis=-1)
        after = log_softmax(self.logits.astype(np.float64), axis=-1)
        found: NDArray[np.float64] = (np.exp(before) * (before - after)).sum(-1)
        return np.maximum(found, 0.0)


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

    def agreements(self, original: TokenScores) -> NDArray[np.float64]:
        """Count the tokens on which both agree, as it was done batch by batch."""
        assert self.agreed is not None, "the run compares where a metric asks for it"
        return self.agreed.astype("float64")

    def divergences(self, original: TokenScores) -> NDArray[np.float64]:
        """Give the sums that were made batch by batch."""
        assert self.divergence is not None, "the run compares where a metric asks for it"
        return self.divergence

    def compared_with_itself(self) -> TokenScores:
        """Agree on every token, and diverge on none."""
        import numpy as np

        return replace(self, agreed=self.tokens, divergence=np.zeros(len(self.tokens)))
