"""One class for each example."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from compressit.outputs.output import Arrays, Asked, Change, Output

if TYPE_CHECKING:
    import numpy as np
    from datasets import Dataset
    from numpy.typing import NDArray


def name(names: Sequence[str], number: int) -> str:
    """Name a class; by its number where it has no name."""
    return names[number] if 0 <= number < len(names) else str(number)


@dataclass(frozen=True)
class Predictions(Output):
    """One class for each example.

    Attributes:
        logits: (examples, classes).
        labels: (examples,), the model's ids.
        examples: (examples,), a hash of each example's content.
        groups: (examples,), the number of each one's group; None where the data has no group column.
    """

    logits: NDArray[np.float32]
    labels: NDArray[np.int64]
    examples: NDArray[np.uint64]
    groups: NDArray[np.int64] | None = None

    @staticmethod
    def reduce(logits: NDArray[Any], labels: NDArray[Any], original: NDArray[Any] | None) -> Arrays:
        """Keep the logits: classes are few."""
        return {"logits": logits, "labels": labels}

    @classmethod
    def gather(
        cls, said: Mapping[str, Sequence[Any]], prepared: Dataset, rows: Dataset, names: Sequence[str]
    ) -> Arrays:
        """Number the groups that the data puts rows in, and leave the rest as it is."""
        return super().gather(said, prepared, rows, names) | cls.grouped(rows)

    @staticmethod
    def grouped(rows: Dataset) -> Arrays:
        """Number the groups of rows, where there are any."""
        import numpy as np

        if "group" not in rows.column_names:
            return {}
        numbers: dict[Any, int] = {}
        owners = [numbers.setdefault(group, len(numbers)) for group in rows["group"]]
        return {"groups": np.array(owners, dtype=np.int64)}

    @classmethod
    def spoken(cls, said: Mapping[str, Sequence[Any]], asked: Asked) -> list[dict[str, Any]]:
        """Give the label, its probability, and those of all labels."""
        import numpy as np
        from scipy.special import softmax

        shares = softmax(np.array(said["logits"], dtype=np.float64), axis=-1)
        found = [dict(zip(asked.names, each.tolist(), strict=True)) for each in shares]
        return [
            {"label": asked.names[best], "score": scores[asked.names[best]], "scores": scores}
            for best, scores in zip(shares.argmax(-1), found, strict=True)
        ]

    def unsound(self) -> str:
        """Look for labels beyond the classes too."""
        wrong = super().unsound()
        beyond = not wrong and bool(len(self)) and bool((self.labels >= self.logits.shape[1]).any())
        return "labels go beyond the classes" if beyond else wrong

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

    @property
    def together(self) -> NDArray[np.int64] | None:
        """Give the groups."""
        return self.groups

    def hits(self) -> NDArray[np.float64]:
        """1 where the class chosen is the true one."""
        right: NDArray[np.float64] = (self.choices == self.labels).astype("float64")
        return right

    def agreements(self, original: Predictions) -> NDArray[np.float64]:
        """1 where both choose the same class."""
        same: NDArray[np.float64] = (self.choices == original.choices).astype("float64")
        return same

    def worse(self, original: Predictions) -> NDArray[np.float64]:
        """Negative log likelihood of the true class, where the original is right and this is wrong."""
        import numpy as np
        from scipy.special import log_softmax

        lost = (original.hits() > 0) & (self.hits() == 0)
        found: NDArray[np.float64] = np.zeros(len(lost))
        said = log_softmax(self.logits[lost].astype(np.float64), axis=-1)
        found[lost] = -said[np.arange(len(said)), self.labels[lost]]
        return found

    def change(self, original: Predictions, place: int, names: Sequence[str], row: Mapping[str, Any] | None) -> Change:
        """Name the classes, with the probability each was chosen by."""
        from scipy.special import softmax

        def said(by: Predictions) -> str:
            chosen = int(by.choices[place])
            return f"{name(names, chosen)} {softmax(by.logits[place].astype(float))[chosen]:.2f}"

        return Change(name(names, int(self.labels[place])), said(original), said(self))

    def divergences(self, original: Predictions) -> NDArray[np.float64]:
        """KL of the class probabilities."""
        import numpy as np
        from scipy.special import log_softmax

        before = log_softmax(original.logits.astype(np.float64), axis=-1)
        after = log_softmax(self.logits.astype(np.float64), axis=-1)
        found: NDArray[np.float64] = (np.exp(before) * (before - after)).sum(-1)
        return np.maximum(found, 0.0)
