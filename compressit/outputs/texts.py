"""One text for each example, generated, and the text that it is held against."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from compressit.algorithms import answers as judging
from compressit.outputs.output import Arrays, Asked, Change, Output

if TYPE_CHECKING:
    import numpy as np
    from datasets import Dataset
    from numpy.typing import NDArray

CLIPPED = 300
"""Characters of a text that are quoted."""


@dataclass(frozen=True)
class Texts(Output):
    """One generated text for each example; texts lie one after the other, as bytes of UTF-8.

    Attributes:
        written: (bytes,), the generated texts.
        lengths: (examples,), how many bytes each has.
        wanted: (bytes of references,), the texts that they are held against.
        wanted_lengths: (examples,), how many bytes each of these has.
        overlap: (examples,), F1 of the words that both have in common; of Chinese, of characters.
        examples: (examples,), a hash of each example's content.
    """

    written: NDArray[np.uint8]
    lengths: NDArray[np.int64]
    wanted: NDArray[np.uint8]
    wanted_lengths: NDArray[np.int64]
    overlap: NDArray[np.float64]
    examples: NDArray[np.uint64]

    @staticmethod
    def reduce(
        logits: NDArray[Any], labels: NDArray[Any], original: NDArray[Any] | None
    ) -> Mapping[str, Sequence[Any]]:
        """Keep the texts: (B,)."""
        return {"texts": logits.tolist()}

    @classmethod
    def gather(
        cls, said: Mapping[str, Sequence[Any]], prepared: Dataset, rows: Dataset, names: Sequence[str]
    ) -> Arrays:
        """Put the texts beside those that they are held against, which `prepared` has."""
        import numpy as np

        texts, references = list(said["texts"]), list(prepared["reference"])
        written, lengths = _packed(texts)
        wanted, wanted_lengths = _packed(references)
        overlap = np.array([_overlap(text, true) for text, true in zip(texts, references, strict=True)])
        return {
            "written": written,
            "lengths": lengths,
            "wanted": wanted,
            "wanted_lengths": wanted_lengths,
            "overlap": overlap,
        }

    @classmethod
    def spoken(cls, said: Mapping[str, Sequence[Any]], asked: Asked) -> list[dict[str, Any]]:
        """Give the text."""
        return [{"text": text} for text in said["texts"]]

    def unsound(self) -> str:
        """Look for lengths below nothing, and for what is no text, too."""
        wrong = super().unsound()
        if not wrong and ((self.lengths < 0).any() or (self.wanted_lengths < 0).any()):
            return "a text has fewer bytes than none"
        for held in (self.written, self.wanted) if not wrong else ():
            if held.dtype != "uint8":
                return f"texts hold {held.dtype}"
        try:
            _unpacked(self.written, self.lengths)
            _unpacked(self.wanted, self.wanted_lengths)
        except UnicodeDecodeError:
            return wrong or "a text is not UTF-8"
        return wrong

    def rows(self, name: str) -> int:
        """How long an array is: texts as long as they are together."""
        own = {"written": self.lengths, "wanted": self.wanted_lengths}
        return int(own[name].sum()) if name in own else len(self)

    @property
    def texts(self) -> list[str]:
        """What was generated, for each example."""
        return _unpacked(self.written, self.lengths)

    @property
    def references(self) -> list[str]:
        """What it is held against, for each example."""
        return _unpacked(self.wanted, self.wanted_lengths)

    @property
    def weights(self) -> NDArray[np.int64]:
        """One text for each example."""
        import numpy as np

        return np.ones(len(self), dtype=np.int64)

    def agreements(self, original: Texts) -> NDArray[np.float64]:
        """1 where both generate the same text."""
        import numpy as np

        return np.array([own == other for own, other in zip(self.texts, original.texts, strict=True)], dtype=np.float64)

    def worse(self, original: Texts) -> NDArray[np.float64]:
        """By how much the overlap fell."""
        import numpy as np

        found: NDArray[np.float64] = np.maximum(original.overlap - self.overlap, 0)
        return found

    def change(self, original: Texts, place: int, names: Sequence[str], row: Mapping[str, Any] | None) -> Change:
        """Quote the texts, with how much they have in common with what was wanted."""

        def said(by: Texts) -> str:
            return f"{_clipped(by.text(place)) or 'nothing'} (F1 {by.overlap[place]:.2f})"

        return Change(_clipped(self.reference(place)), said(original), said(self))

    def text(self, place: int) -> str:
        """Give one example's generated text."""
        return _one(self.written, self.lengths, place)

    def reference(self, place: int) -> str:
        """Give what one example's is held against."""
        return _one(self.wanted, self.wanted_lengths, place)

    def __len__(self) -> int:
        """How many examples there are."""
        return len(self.lengths)

    def take(self, indices: NDArray[np.int64]) -> Texts:
        """Keep the examples at `indices`, which may repeat, with their texts."""
        chosen = [int(index) for index in indices]
        written, lengths = _packed([self.text(index) for index in chosen])
        wanted, wanted_lengths = _packed([self.reference(index) for index in chosen])
        return replace(
            self,
            written=written,
            lengths=lengths,
            wanted=wanted,
            wanted_lengths=wanted_lengths,
            overlap=self.overlap[indices],
            examples=self.examples[indices],
        )


def _overlap(text: str, true: str) -> float:
    return judging.scores(text, [true], characters=judging.unspaced(true))[1]


def _packed(texts: Sequence[str]) -> tuple[NDArray[np.uint8], NDArray[np.int64]]:
    """Lay texts out one after the other; half a character, which UTF-8 doesn't have, becomes a question mark."""
    import numpy as np

    parts = [text.encode("utf-8", "replace") for text in texts]
    whole = np.frombuffer(b"".join(parts), dtype=np.uint8)
    return whole, np.array([len(part) for part in parts], dtype=np.int64)


def _unpacked(whole: NDArray[np.uint8], lengths: NDArray[np.int64]) -> list[str]:
    import numpy as np

    held, ends = whole.tobytes(), np.cumsum(lengths).tolist()
    return [held[end - length : end].decode("utf-8") for end, length in zip(ends, lengths.tolist(), strict=True)]


def _one(whole: NDArray[np.uint8], lengths: NDArray[np.int64], place: int) -> str:
    start = int(lengths[:place].sum())
    return whole[start : start + int(lengths[place])].tobytes().decode("utf-8")


def _clipped(text: str) -> str:
    return f"{text[:CLIPPED]}..." if len(text) > CLIPPED else text
