"""The data's choices and answers -> a list of texts for each row, and which of them is right."""

from __future__ import annotations

from collections.abc import Sequence
from string import ascii_uppercase
from typing import TYPE_CHECKING, Any

from compressit.data.places import Where
from compressit.errors import DataError

if TYPE_CHECKING:
    from datasets import Dataset

UNANSWERED = -1
"""What stands for an answer that nobody knows."""
FORMS = "a list of texts, or as ARC has them: {text: [...], label: [...]}; or name two columns choice_a and choice_b"


def laid_out(rows: Dataset, where: Where, *, needed: bool = True) -> Dataset:
    """Bring the columns `choices`, or `choice_a` and `choice_b`, and `answer` into one form.

    An answer may be a choice's place from 0, as a number or a text; its letter, or its label where the data has some;
    or the right text itself. Where answers are not needed, a row without one gets `UNANSWERED`.

    Returns:
        `context`, `choices` (two texts or more) and `answer` (a place), and `group` where there is one.

    Raises:
        DataError: there are fewer than two choices, one is no text, or no choice or more than one can be meant.
    """
    import datasets

    names = rows.column_names
    given = list(rows["choices"]) if "choices" in names else list(zip(rows["choice_a"], rows["choice_b"], strict=True))
    answers = list(rows["answer"]) if "answer" in names else [None] * len(rows)
    choices, found = [], []
    for index, (value, answer) in enumerate(zip(given, answers, strict=True)):
        texts, labels = _texts(value, index, where)
        missing = answer is None or answer in (UNANSWERED, "")
        if missing and needed:
            raise DataError(f"{where(index)} has no answer", hint="name a split whose answers are known")
        choices.append(texts)
        found.append(UNANSWERED if missing else _place(answer, texts, labels, index, where))
    columns = {"context": list(rows["context"]), "choices": choices, "answer": found}
    return datasets.Dataset.from_dict(columns | ({"group": list(rows["group"])} if "group" in names else {}))


def _texts(value: Any, index: int, where: Where) -> tuple[list[str], list[str]]:
    """Take the choices, and the labels they go by, out of any of the forms."""
    labels = value.get("label") if isinstance(value, dict) else None
    texts = value.get("text") if isinstance(value, dict) else value
    if not isinstance(texts, list | tuple) or len(texts) < 2:
        raise DataError(f"{where(index)}: choices are {str(value)[:40]}, not two texts or more", hint=FORMS)
    for text in texts:
        if not isinstance(text, str) or not text.strip():
            shown = "empty" if text is None or isinstance(text, str) else f"{str(text)[:40]}, not text"
            raise DataError(f"{where(index)}: a choice is {shown}", hint=FORMS)
    if labels is not None and len(labels) != len(texts):
        raise DataError(f"{where(index)}: {len(texts)} choices have {len(labels)} labels")
    return list(texts), [str(label) for label in labels or ()]


def _place(answer: Any, texts: Sequence[str], labels: Sequence[str], index: int, where: Where) -> int:
    """Find the choice that an answer means."""
    if isinstance(answer, bool) or not isinstance(answer, str | int):
        raise DataError(f"{where(index)}: answer {str(answer)[:40]} is neither a choice's place nor a text")
    said = str(answer)
    if said in labels:
        return labels.index(said)
    meant = {place for place, text in enumerate(texts) if text == said and isinstance(answer, str)}
    meant |= {place for place in range(len(texts)) if said == str(place)}
    meant |= {place for place, letter in enumerate(ascii_uppercase[: len(texts)]) if said == letter}
    if len(meant) != 1:
        what = "may mean more than one" if meant else "is none"
        raise DataError(
            f"{where(index)}: answer {said[:40]!r} {what} of the {len(texts)} choices",
            hint="give the right choice's place, from 0",
        )
    return meant.pop()
