"""The data's answers -> {text: [...], answer_start: [...]} for each question, in characters of its context."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from compressit.data.places import Where
from compressit.errors import DataError

if TYPE_CHECKING:
    from datasets import Dataset

LAYOUT = "answers as SQuAD has them: {text: [...], answer_start: [...]}, empty lists where there is no answer"


def laid_out(rows: Dataset, where: Where, *, needed: bool = True) -> Dataset:
    """Bring the column `answers` into one form.

    Answers may be {text, answer_start} of lists, or of one each, or a list of such. To judge by them their texts are
    enough; to learn from, each must stand in its context where it is said to be. Where they are not needed, a row, or
    all, may have None.

    Raises:
        DataError: answers are missing, have another form, or stand elsewhere.
    """
    import datasets

    values = list(rows["answers"]) if "answers" in rows.column_names else [None] * len(rows)
    found = []
    for index, (value, context) in enumerate(zip(values, rows["context"], strict=True)):
        plain = _plain(value, index, where)
        if plain is None and needed:
            raise DataError(
                f"{where(index)} has no answers", hint="empty lists say that there is no answer in the context"
            )
        found.append(None if plain is None else _placed(*plain, context, index, where, exact=not needed))
    texts, places = datasets.List(datasets.Value("string")), datasets.List(datasets.Value("int64"))
    features = datasets.Features(
        {
            "question": datasets.Value("string"),
            "context": datasets.Value("string"),
            "answers": {"text": texts, "answer_start": places},
        }
    )
    columns = {"question": list(rows["question"]), "context": list(rows["context"]), "answers": found}
    return datasets.Dataset.from_dict(columns, features=features)


def _plain(value: Any, index: int, where: Where) -> tuple[list[str], list[int | None]] | None:
    """Take texts and places out of any of the forms."""
    if isinstance(value, list):
        parts = [_plain(each, index, where) for each in value]
        known = [part for part in parts if part is not None]
        return [text for texts, _ in known for text in texts], [place for _, places in known for place in places]
    if value is None or (isinstance(value, dict) and value.get("text") is None):
        return None
    texts = value.get("text") if isinstance(value, dict) else value
    places = value.get("answer_start") if isinstance(value, dict) else None
    texts = [texts] if isinstance(texts, str) else texts
    places = [places] if isinstance(places, int) else places if places is not None else [None] * len(texts or ())
    if not isinstance(texts, list) or not all(isinstance(text, str) for text in texts) or len(places) != len(texts):
        raise DataError(f"{where(index)}: answers are {str(value)[:80]}", hint=LAYOUT)
    return texts, places


def _placed(
    texts: list[str], places: list[int | None], context: str, index: int, where: Where, *, exact: bool
) -> dict[str, Any]:
    """Check where each answer stands; one whose place nobody says is looked for."""
    found = [context.find(text) if place is None else place for text, place in zip(texts, places, strict=True)]
    for text, place in zip(texts, found, strict=True) if exact else ():
        there = context[place : place + len(text)] if place >= 0 else ""
        if there.split() != text.split():
            raise DataError(
                f"{where(index)}: the context has {there[:40]!r} at answer_start {place}, not {text[:40]!r}",
                hint="answer_start counts characters of the context from 0",
            )
    return {"text": texts, "answer_start": found}
