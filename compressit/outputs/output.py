"""What every kind of output is: arrays with a row for each example, that travel between processes and into files."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields, replace
from typing import TYPE_CHECKING, Any, ClassVar, Self

if TYPE_CHECKING:
    import numpy as np
    from datasets import Dataset
    from numpy.typing import NDArray

Arrays = dict[str, "NDArray[Any]"]
OUT_OF_REACH = -1e9
"""Logit of what can't be an answer: its probability is 0, and the difference of two of them is no NaN."""


@dataclass(frozen=True)
class Change:
    """What became of one example, in words.

    Attributes:
        truth: What is right; empty where nothing is, or where nobody knows.
        before: What the original said.
        after: What is said now.
    """

    truth: str
    before: str
    after: str


@dataclass(frozen=True)
class Asked:
    """What a model was asked, outside of any judging.

    Attributes:
        prepared: What the model was given.
        rows: What that was prepared from; nobody knows their truth.
        names: What the model's classes are called, in the order of their ids.
        protocol: How the examples were scored on which the model was judged.
    """

    prepared: Dataset
    rows: Dataset
    names: Sequence[str]
    protocol: Mapping[str, str | int]


@dataclass(frozen=True)
class Output:
    """Arrays that have a row for each example.

    Attributes:
        PAIRED: Whether closeness to the original is found batch by batch, with both models' logits at hand.
        TEXTS: Names of the arrays that hold text rather than numbers.
    """

    PAIRED: ClassVar[bool] = False
    TEXTS: ClassVar[frozenset[str]] = frozenset()

    @staticmethod
    def reduce(
        logits: NDArray[Any], labels: NDArray[Any], original: NDArray[Any] | None
    ) -> Mapping[str, Sequence[Any] | NDArray[Any]]:
        """Reduce one batch to what is kept of each of its rows.

        Args:
            logits: What the model said, as the task reads it: (rows, classes), (rows, L, classes), ...
            labels: The batch's labels.
            original: What the original said, where the two are compared batch by batch.

        Returns:
            By name, one value for each row; values of unlike shapes in a list.
        """
        raise NotImplementedError

    @classmethod
    def gather(
        cls, said: Mapping[str, Sequence[Any]], prepared: Dataset, rows: Dataset, names: Sequence[str]
    ) -> Arrays:
        """Make the arrays of all examples out of what was kept of each prepared row; `examples` is left out.

        Rows of one example, which a column `example` numbers, are added up.

        Args:
            said: By name, a value for each prepared row.
            prepared: What the model was given.
            rows: What that was prepared from.
            names: The model's labels in the order of their ids.
        """
        import numpy as np

        arrays = {name: np.array(values) for name, values in said.items()}
        if "example" not in prepared.column_names:
            return arrays
        owners = np.array(prepared["example"])
        sums = {name: np.zeros((owners.max() + 1, *values.shape[1:]), values.dtype) for name, values in arrays.items()}
        for name, values in arrays.items():
            np.add.at(sums[name], owners, values)
        return sums

    @classmethod
    def kept(cls, logits: NDArray[Any], labels: NDArray[Any]) -> Mapping[str, Sequence[Any] | NDArray[Any]]:
        """Reduce one batch to what `spoken` reads, where nothing is judged: by itself what `reduce` keeps."""
        return cls.reduce(logits, labels, None)

    @classmethod
    def spoken(cls, said: Mapping[str, Sequence[Any]], asked: Asked) -> list[dict[str, Any]]:
        """Say for each row what the model finds, in plain values for people and programs.

        Args:
            said: By name, what `kept` gave for each prepared row.
            asked: What the model was asked.
        """
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

    @property
    def together(self) -> NDArray[np.int64] | None:
        """Number of the group that each example belongs to, (examples,): whole groups are drawn where one resamples."""
        return None

    def hits(self) -> NDArray[np.float64]:
        """How many of its predictions are right, for each example: (examples,)."""
        raise NotImplementedError

    def agreements(self, original: Self) -> NDArray[np.float64]:
        """On how many of its predictions each example agrees with the original: (examples,)."""
        raise NotImplementedError

    def divergences(self, original: Self) -> NDArray[np.float64]:
        """KL(original || this) in nats, summed over each example's predictions: (examples,)."""
        raise NotImplementedError

    def worse(self, original: Self) -> NDArray[np.float64]:
        """How much worse each example is than the original's, in this kind's own measure; 0 if not: (examples,)."""
        raise NotImplementedError

    def change(self, original: Self, place: int, names: Sequence[str], row: Mapping[str, Any] | None) -> Change:
        """Say what became of an example.

        Args:
            original: What the original said.
            place: Of the example.
            names: The model's labels in the order of their ids.
            row: The example itself by role; None where it isn't at hand.
        """
        raise NotImplementedError

    def compared_with_itself(self) -> Self:
        """Give the output that closeness to the original is complete in, where this is the original's own."""
        return self

    def arrays(self) -> Arrays:
        """Give the arrays by name, to be saved."""
        return {field.name: held for field in fields(self) if (held := getattr(self, field.name)) is not None}

    def unsound(self) -> str:
        """Say what is wrong with arrays that were read from a file; empty where nothing is."""
        for name, held in self.arrays().items():
            axes, kinds = (2 if name == "logits" else 1), ("U" if name in self.TEXTS else "biuf")
            if held.ndim != axes or (held.size and held.dtype.kind not in kinds):
                return f"{name} holds {held.dtype} in {held.ndim} axes"
            if len(held) != self.rows(name):
                return f"{name} holds {len(held):,} rows, {self.rows(name):,} expected"
        return ""

    def rows(self, name: str) -> int:
        """How long an array is: as long as there are examples."""
        return len(self)

    def __len__(self) -> int:
        """How many examples there are."""
        return len(next(iter(self.arrays().values())))

    def take(self, indices: NDArray[np.int64]) -> Self:
        """Keep the examples at `indices`, which may repeat."""
        return replace(self, **{name: held[indices] for name, held in self.arrays().items()})
