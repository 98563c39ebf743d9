"""One answer to each question: a piece of its context, or none."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

from compressit.algorithms import answers as judging
from compressit.outputs.output import Arrays, Asked, Change, Output

if TYPE_CHECKING:
    import numpy as np
    from datasets import Dataset
    from numpy.typing import NDArray

NOWHERE = -100
"""Marks a place where no answer may start or end."""


@dataclass(frozen=True)
class Answers(Output):
    """One answer to each question.

    Attributes:
        answers: (examples,), what the model says, as it stands in the context; empty for no answer.
        exact: (examples,), 1 where that is one of the true answers, as SQuAD compares them.
        f1: (examples,), how much it has in common with the nearest of them.
        answerable: (examples,), whether there is a true answer.
        examples: (examples,), a hash of each example's content.
    """

    TEXTS: ClassVar[frozenset[str]] = frozenset({"answers"})

    answers: NDArray[np.str_]
    exact: NDArray[np.float64]
    f1: NDArray[np.float64]
    answerable: NDArray[np.bool_]
    examples: NDArray[np.uint64]

    @staticmethod
    def reduce(
        logits: NDArray[Any], labels: NDArray[Any], original: NDArray[Any] | None
    ) -> Mapping[str, Sequence[Any]]:
        """Keep the logits of each window's places where an answer may start or end: (places, 2) for each."""
        there = labels[..., 0] != NOWHERE
        return {"spans": [row[own] for row, own in zip(logits, there, strict=True)]}

    @classmethod
    def gather(
        cls, said: Mapping[str, Sequence[Any]], prepared: Dataset, rows: Dataset, names: Sequence[str]
    ) -> Arrays:
        """Answer each question by the best span of all its windows, and judge that.

        No answer has the first place's start + end, of which the least of all windows counts, and is said where that is
        more than the best span's: only where the rows hold a question without an answer.
        """
        import numpy as np

        unanswerable = [not each["text"] for each in rows["answers"]]
        found = _best(said, prepared, rows, silent=any(unanswerable))
        texts, scores = [text for text, _ in found], []
        for text, context, true in zip(texts, rows["context"], rows["answers"], strict=True):
            scores.append(judging.scores(text, true["text"], characters=judging.unspaced(context)))
        exact, f1 = np.array(scores, dtype=np.float64).T
        return {"answers": np.array(texts), "exact": exact, "f1": f1, "answerable": ~np.array(unanswerable)}

    @classmethod
    def spoken(cls, said: Mapping[str, Sequence[Any]], asked: Asked) -> list[dict[str, Any]]:
        """Give the answer, empty for none, and its probability among all starts and ends of its window.

        None is said only where the examples that the model was judged on held questions without an answer.
        """
        found = _best(said, asked.prepared, asked.rows, silent=asked.protocol.get("no answer") == "allowed")
        return [{"answer": text, "score": score} for text, score in found]

    @property
    def weights(self) -> NDArray[np.int64]:
        """One answer for each example."""
        import numpy as np

        return np.ones(len(self.exact), dtype=np.int64)

    def hits(self) -> NDArray[np.float64]:
        """1 where the answer is a true one."""
        return self.exact

    def apart(self, scores: NDArray[np.float64]) -> dict[str, float]:
        """Average over the questions with an answer and over those without, where there are both."""
        if self.answerable.all() or not self.answerable.any():
            return {}
        own = self.answerable
        return {"answerable": float(scores[own].mean()), "unanswerable": float(scores[~own].mean())}

    def worse(self, original: Answers) -> NDArray[np.float64]:
        """By how much F1 fell."""
        import numpy as np

        found: NDArray[np.float64] = np.maximum(original.f1 - self.f1, 0)
        return found

    def change(self, original: Answers, place: int, names: Sequence[str], row: Mapping[str, Any] | None) -> Change:
        """Quote the answers, with their F1; true ones aren't kept, so that they come from the row."""
        true = list(dict.fromkeys(map(str, ((row or {}).get("answers") or {}).get("text", ()))))
        truth = "" if self.answerable[place] else "no answer"

        def said(by: Answers) -> str:
            return f"{str(by.answers[place]) or 'no answer'} (F1 {by.f1[place]:.2f})"

        return Change(" / ".join(true) or truth, said(original), said(self))

    def agreements(self, original: Answers) -> NDArray[np.float64]:
        """1 where both say the same."""
        same: NDArray[np.float64] = (self.answers == original.answers).astype("float64")
        return same


def _best(
    said: Mapping[str, Sequence[Any]], prepared: Dataset, rows: Dataset, *, silent: bool
) -> list[tuple[str, float]]:
    """Find the best span of all windows of each row: its text and its probability in its window.

    Where a model may be `silent`, it is where the first place's start + end is more than the best span's; the least one
    of all windows counts.
    """
    import numpy as np
    from scipy.special import logsumexp

    best: list[tuple[float, int, int, float]] = [(-np.inf, 0, 0, 0.0)] * len(rows)
    none = [(np.inf, 0.0)] * len(rows)
    windows = zip(said["spans"], *(prepared[name] for name in ("row", "begins", "ends", "longest")), strict=True)
    for spans, row, begins, ends, longest in windows:
        every = float(logsumexp(spans.astype(np.float64), axis=0).sum())
        none[row] = min(none[row], (float(spans[0].sum()), every))
        score, first, last = judging.best_span(spans[1:, 0], spans[1:, 1], longest)
        if score > best[row][0]:
            best[row] = (score, begins[first], ends[last], every)
    found = []
    for context, (score, begin, end, every), (nothing, there) in zip(rows["context"], best, none, strict=True):
        quiet = silent and nothing > score
        text, own, among = ("", nothing, there) if quiet else (context[begin:end].strip(), score, every)
        found.append((text, float(np.exp(own - among))))
    return found
