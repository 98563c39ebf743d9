"""One answer to each question: a piece of its context, or none."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from compressit.algorithms import answers as judging
from compressit.outputs.output import Arrays, Change, Output

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
        best: list[tuple[float, int, int]] = [(-np.inf, 0, 0)] * len(rows)
        none = np.full(len(rows), np.inf)
        windows = zip(said["spans"], *(prepared[name] for name in ("row", "begins", "ends", "longest")), strict=True)
        for spans, row, begins, ends, longest in windows:
            none[row] = min(none[row], float(spans[0].sum()))
            score, first, last = judging.best_span(spans[1:, 0], spans[1:, 1], longest)
            if score > best[row][0]:
                best[row] = (score, begins[first], ends[last])
        contexts, true = rows["context"], rows["answers"]
        texts, scores = [], []
        for row, (score, begin, end) in enumerate(best):
            silent = any(unanswerable) and none[row] > score
            texts.append("" if silent else contexts[row][begin:end].strip())
            characters = judging.unspaced(contexts[row])
            scores.append(judging.scores(texts[-1], true[row]["text"], characters=characters))
        exact, f1 = np.array(scores, dtype=np.float64).T
        return {"answers": np.array(texts), "exact": exact, "f1": f1, "answerable": ~np.array(unanswerable)}

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
