"""Texts and what is wanted of them, in columns and in fields of columns, and what is wrong with others."""

import json

import pytest

from compressit import data
from compressit.data import DatasetSpec, source
from compressit.errors import DataError

GOOD = {"text": "old house", "translation": "altes Haus"}
NESTED = {"translation": {"en": "old house", "de": "altes Haus"}}


def read(tmp_path, *rows, task="translation", labelled=True, **columns):
    (tmp_path / "a.jsonl").write_text("\n".join(map(json.dumps, rows)))
    spec = DatasetSpec(path=str(tmp_path), evaluation="a.jsonl", columns=columns)
    return data.rows(spec, "a.jsonl", task, {}, tmp_path, labelled=labelled)


def test_a_column_with_a_field_for_each_language(tmp_path):
    found = read(tmp_path, NESTED, {**NESTED, "id": 1}, text="translation.en", translation="translation.de")
    assert found.to_list() == [{"text": "old house", "translation": "altes Haus"}] * 2
    spec = DatasetSpec(path=str(tmp_path), evaluation="a.jsonl")
    assert source.columns(spec, "a.jsonl", tmp_path) == ["translation", "translation.en", "translation.de", "id"]


def test_columns_of_summaries(tmp_path):
    rows = [{"article": "A long text.", "highlights": "A text."}]
    (found,) = read(tmp_path, *rows, task="summarization", text="article", summary="highlights")
    assert found == {"text": "A long text.", "summary": "A text."}


@pytest.mark.parametrize("labelled", [True, False])
@pytest.mark.parametrize(
    ("rows", "message"),
    [
        ([{"text": "old house"}], "has no column 'translation' for translation"),
        ([NESTED], "has no column 'text' for text"),
        ([GOOD, {**GOOD, "translation": None}], "line 2 of .*a.jsonl: translation is empty"),
        ([GOOD, {**GOOD, "translation": " "}], "line 2 of .*a.jsonl: translation is empty"),
        ([GOOD, {**GOOD, "text": None}], "line 2 of .*a.jsonl: text is empty"),
        ([{**GOOD, "translation": ["Haus"]}], "line 1 of .*: translation is .'Haus'.*, not text"),
    ],
)
def test_what_is_missing_is_named_in_training_data_too(rows, message, labelled, tmp_path):
    """A model that writes is given what it is to write when it learns: no row teaches anything without."""
    with pytest.raises(DataError, match=message):
        read(tmp_path, *rows, labelled=labelled)


def test_a_field_that_is_not_there(tmp_path):
    with pytest.raises(DataError, match=r"has no column 'translation\.fr' for translation"):
        read(tmp_path, NESTED, text="translation.en", translation="translation.fr")


def test_rows_that_are_to_be_translated_need_no_translation():
    (found,) = data.questions({"text": ["old house"]}, "translation")
    assert found == {"text": "old house", "translation": None}
