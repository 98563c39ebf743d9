"""The data's words and their tags -> lists of words and of the model's ids, of one length; names as `labels` has them.

A row whose words, or tags, are one text is split at white space, as csv files have them.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from compressit.data import labels
from compressit.data.places import Where
from compressit.errors import DataError
from compressit.outputs.tags import UNKNOWN

if TYPE_CHECKING:
    from datasets import Dataset

MISSING = (None, -1, -100)
"""Tags that say nothing: -100 is how many data sets mark words to pass over."""


def to_ids(
    rows: Dataset, id2label: Mapping[int, str], mapping: Mapping[str, str] | None, where: Where, *, needed: bool = True
) -> Dataset:
    """Make lists of the columns `tokens` and `tags`, and the model's ids of the tags.

    Where tags are not needed, a word without one gets `UNKNOWN`, as do all words of a row, or of rows, without any.

    Raises:
        DataError: words and tags don't go together, or the tags and the model's labels don't agree.
    """
    import datasets

    words = [_words(value, index, where) for index, value in enumerate(rows["tokens"])]
    tagged = "tags" in rows.column_names
    values = list(rows["tags"]) if tagged else [None] * len(rows)
    tags = [
        _tags(value, len(some), index, where, needed)
        for index, (value, some) in enumerate(zip(values, words, strict=True))
    ]
    inner = getattr(rows.features["tags"], "feature", None) if tagged else None
    names = inner.names if isinstance(inner, datasets.ClassLabel) else None
    known = sorted({tag for some in tags for tag in some if tag not in MISSING}, key=str)
    ids = labels.table(known, names, id2label, mapping) | dict.fromkeys(MISSING, UNKNOWN)
    found = {"tokens": words, "tags": [[ids[tag] for tag in some] for some in tags]}
    strings, numbers = datasets.Value("string"), datasets.Value("int64")
    features = datasets.Features({"tokens": datasets.List(strings), "tags": datasets.List(numbers)})
    return datasets.Dataset.from_dict(found, features=features)


def _words(value: Any, index: int, where: Where) -> list[str]:
    words = value.split() if isinstance(value, str) else value
    if not words:
        raise DataError(f"{where(index)} has no words")
    for place, word in enumerate(words):
        if not isinstance(word, str):
            shown = "empty" if word is None else f"{str(word)[:40]}, not text"
            raise DataError(f"{where(index)}: word {place} is {shown}")
    return list(words)


def _tags(value: Any, count: int, index: int, where: Where, needed: bool) -> list[Any]:
    tags = value.split() if isinstance(value, str) else value
    if tags is None and not needed:
        return [None] * count
    found = [] if tags is None else list(tags)
    if len(found) != count:
        hint = "one tag for each word; texts that are not split yet are split at white space"
        raise DataError(f"{where(index)} has {count} words and {len(found)} tags", hint=hint)
    for place, tag in enumerate(found):
        if needed and tag in MISSING:
            raise DataError(f"{where(index)}: word {place} has no tag", hint="name a split whose tags are known")
        if tag is not None and not isinstance(tag, str | int):
            raise DataError(f"{where(index)}: tag {tag!r} is a {type(tag).__name__}, not a class")
    return found
