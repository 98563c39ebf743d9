"""One class for each word of each example."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, ClassVar

from compressit.algorithms import entities
from compressit.algorithms.writing import spaced
from compressit.outputs.output import Arrays, Asked, Change, Output

if TYPE_CHECKING:
    import numpy as np
    from datasets import Dataset
    from numpy.typing import NDArray

NOT_A_WORD = -100
"""The label of a position where no word begins."""
UNKNOWN = -1
"""The label of a word whose tag nobody knows."""
WORDS = 6
"""Words of an example that are named where tags changed."""
OUTSIDE, SURE = "O", 30.0
"""What a word that has no token is taken for, and by how much its logit leads."""


@dataclass(frozen=True)
class Tags(Output):
    """One class for each word; words of all examples lie one after the other.

    Attributes:
        logits: (words, classes).
        labels: (words,), the model's ids.
        counts: (examples,), how many words each has.
        names: (classes,), what the classes are called.
        examples: (examples,), a hash of each example's content.
    """

    TEXTS: ClassVar[frozenset[str]] = frozenset({"names"})

    logits: NDArray[np.float32]
    labels: NDArray[np.int64]
    counts: NDArray[np.int64]
    names: NDArray[np.str_]
    examples: NDArray[np.uint64]

    @staticmethod
    def reduce(
        logits: NDArray[Any], labels: NDArray[Any], original: NDArray[Any] | None
    ) -> Mapping[str, Sequence[Any] | NDArray[Any]]:
        """Keep the logits where a word begins: (B, L, classes), (B, L)."""
        return {"logits": [row[where != NOT_A_WORD] for row, where in zip(logits, labels, strict=True)]}

    @classmethod
    def gather(
        cls, said: Mapping[str, Sequence[Any]], prepared: Dataset, rows: Dataset, names: Sequence[str]
    ) -> Arrays:
        """Bring what was said of each window's words to where the words are in the rows.

        A word of which the tokenizer makes nothing is never found by who serves the model: it counts as outside.
        """
        import numpy as np

        counts = np.array([len(tags) for tags in rows["tags"]], dtype=np.int64)
        starts = np.cumsum(counts) - counts
        logits = np.zeros((int(counts.sum()), len(names)), dtype=np.float32)
        if OUTSIDE in names:
            logits[:, list(names).index(OUTSIDE)] = SURE
        for row, words, each in zip(prepared["row"], prepared["words"], said["logits"], strict=True):
            logits[starts[row] + np.array(words, dtype=np.int64)] = each
        labels = np.array([tag for tags in rows["tags"] for tag in tags], dtype=np.int64)
        return {"logits": logits, "labels": labels, "counts": counts, "names": np.array(names)}

    @classmethod
    def spoken(cls, said: Mapping[str, Sequence[Any]], asked: Asked) -> list[dict[str, Any]]:
        """Give a tag for each word, and the entities: type, first and last word, counted from 0, and their text."""
        import numpy as np

        found = cls(**cls.gather(said, asked.prepared, asked.rows, asked.names), examples=np.empty(0, dtype=np.uint64))
        written = entities.spelled(asked.names)
        spoken = []
        for words, tags in zip(asked.rows["tokens"], found.sentences(found.choices), strict=True):
            parts = [
                {"type": kind, "first": first, "last": last, "text": _text(words[first : last + 1])}
                for kind, first, last in entities.spans([written[tag] for tag in tags])
            ]
            spoken.append({"tags": tags, "entities": parts})
        return spoken

    def unsound(self) -> str:
        """Look for labels beyond the classes too, and for examples of fewer words than none."""
        wrong = super().unsound()
        if not wrong and (self.counts < 0).any():
            return "an example has fewer words than none"
        beyond = not wrong and bool((self.labels >= self.logits.shape[1]).any())
        return "labels go beyond the classes" if beyond else wrong

    def rows(self, name: str) -> int:
        """How long an array is: as long as there are words, for logits and labels."""
        if name == "names":
            return int(self.logits.shape[1])
        return len(self.counts) if name in ("counts", "examples") else int(self.counts.sum())

    @property
    def choices(self) -> NDArray[np.int64]:
        """The class chosen for each word."""
        chosen: NDArray[np.int64] = self.logits.argmax(-1)
        return chosen

    def sentences(self, ids: NDArray[np.int64]) -> list[list[str]]:
        """Give classes by name, in a list for each example."""
        import numpy as np

        return [part.tolist() for part in np.split(self.names[ids], np.cumsum(self.counts)[:-1])]

    @property
    def weights(self) -> NDArray[np.int64]:
        """One prediction for each word."""
        return self.counts

    def hits(self) -> NDArray[np.float64]:
        """Count the words whose class is the one chosen."""
        return self._summed(self.choices == self.labels)

    def agreements(self, original: Tags) -> NDArray[np.float64]:
        """Count the words for which both choose the same class."""
        return self._summed(self.choices == original.choices)

    def worse(self, original: Tags) -> NDArray[np.float64]:
        """Negative log likelihood of the true classes of words that only the original has right, summed."""
        import numpy as np
        from scipy.special import log_softmax

        lost = (original.choices == self.labels) & (self.choices != self.labels)
        found: NDArray[np.float64] = np.zeros(len(lost))
        said = log_softmax(self.logits[lost].astype(np.float64), axis=-1)
        found[lost] = -said[np.arange(len(said)), self.labels[lost]]
        return self._summed(found)

    def change(self, original: Tags, place: int, names: Sequence[str], row: Mapping[str, Any] | None) -> Change:
        """Name the tags of the words that only the original has right."""
        start = int(self.counts[:place].sum())
        own = slice(start, start + int(self.counts[place]))
        lost = ((original.choices == self.labels) & (self.choices != self.labels))[own].nonzero()[0].tolist()
        words = list((row or {}).get("tokens") or [])
        called = [str(words[word]) if word < len(words) else f"word {word + 1}" for word in lost]

        def said(ids: NDArray[np.int64]) -> str:
            tags = self.names[ids[own]][lost].tolist()
            told = [f"{word}: {tag}" for word, tag in zip(called, tags, strict=True)]
            return ", ".join(told[:WORDS] + ["..."] * (len(told) > WORDS))

        return Change(said(self.labels), said(original.choices), said(self.choices))

    def divergences(self, original: Tags) -> NDArray[np.float64]:
        """Sum the KL of the class probabilities."""
        import numpy as np
        from scipy.special import log_softmax

        before = log_softmax(original.logits.astype(np.float64), axis=-1)
        after = log_softmax(self.logits.astype(np.float64), axis=-1)
        return self._summed(np.maximum((np.exp(before) * (before - after)).sum(-1), 0.0))

    def __len__(self) -> int:
        """How many examples there are."""
        return len(self.counts)

    def take(self, indices: NDArray[np.int64]) -> Tags:
        """Keep the examples at `indices`, which may repeat, with their words."""
        import numpy as np

        counts = self.counts[indices]
        starts = (np.cumsum(self.counts) - self.counts)[indices]
        words = np.repeat(starts - (np.cumsum(counts) - counts), counts) + np.arange(counts.sum())
        by_word, by_example = (
            {name: getattr(self, name)[where] for name in some}
            for some, where in ((("logits", "labels"), words), (("counts", "examples"), indices))
        )
        return replace(self, **by_word, **by_example)

    def _summed(self, values: NDArray[Any]) -> NDArray[np.float64]:
        import numpy as np

        owners = np.repeat(np.arange(len(self)), self.counts)
        found: NDArray[np.float64] = np.bincount(owners, weights=values, minlength=len(self)).astype(np.float64)
        return found


def _text(words: Sequence[str]) -> str:
    """Write words one after the other."""
    text = ""
    for word in words:
        text += f" {word}" if spaced(text, word) else word
    return text
