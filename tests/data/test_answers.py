"""Answers in every form that data sets have them in, and what is wrong with others."""

import json

import datasets
import pytest

from compressit import data
from compressit.data import DatasetSpec
from compressit.errors import DataError

CONTEXT = "The king lived in the old mill."
SQUAD = {"text": ["the old mill", "old mill"], "answer_start": [18, 22]}
NONE = {"text": [], "answer_start": []}


def read(tmp_path, *values, labelled=True, **more):
    rows = [{"id": str(n), "question": "where?", "context": CONTEXT, "answers": v} for n, v in enumerate(values)]
    (tmp_path / "a.jsonl").write_text("\n".join(json.dumps({**row, **more}) for row in rows))
    spec = DatasetSpec(path=str(tmp_path), evaluation="a.jsonl")
    return data.rows(spec, "a.jsonl", "question-answering", {}, tmp_path, labelled=labelled)


def test_answers_of_squad(tmp_path):
    found = read(tmp_path, SQUAD, NONE, title="Kings")
    assert found.column_names == ["question", "context", "answers"]
    assert found["answers"][:] == [SQUAD, NONE]


@pytest.mark.parametrize(
    ("written", "meant"),
    [
        ([{"text": "the old mill", "answer_start": 18}, {"text": "old mill", "answer_start": 22}], SQUAD),
        ({"text": "old mill", "answer_start": 22}, {"text": ["old mill"], "answer_start": [22]}),
        ([], NONE),
    ],
)
@pytest.mark.parametrize("labelled", [True, False])
def test_other_forms_of_them(written, meant, labelled, tmp_path):
    assert read(tmp_path, written, labelled=labelled)["answers"][0] == meant


def test_texts_are_enough_to_judge_by(tmp_path):
    found = read(tmp_path, {"text": ["old mill", "a windmill"]})
    assert found["answers"][0] == {"text": ["old mill", "a windmill"], "answer_start": [22, -1]}


def test_one_learns_from_questions_without_answers_too(tmp_path):
    found = read(tmp_path, SQUAD, None, labelled=False)
    assert found["answers"][:] == [SQUAD, None]
    (tmp_path / "b.jsonl").write_text(json.dumps({"question": "where?", "context": CONTEXT}))
    spec = DatasetSpec(path=str(tmp_path), evaluation="a.jsonl")
    bare = data.rows(spec, "b.jsonl", "question-answering", {}, tmp_path, labelled=False)
    assert bare["answers"][:] == [None]
    assert data.labels.unknown(bare)
    assert not data.labels.unknown(found)
    with pytest.raises(DataError, match="no column 'answers' for answers"):
        data.rows(spec, "b.jsonl", "question-answering", {}, tmp_path)


@pytest.mark.parametrize(
    ("written", "labelled", "message"),
    [
        (None, True, r"line 1 of .*a\.jsonl has no answers"),
        ({"text": ["old mill"], "answer_start": []}, True, "answers are .*old mill"),
        ({"text": ["old mill"], "answer_start": [20]}, False, "has 'e old mi' at answer_start 20, not 'old mill'"),
        ({"text": ["old mill"], "answer_start": [-1]}, False, "at answer_start -1"),
    ],
)
def test_what_is_wrong_with_others(written, labelled, message, tmp_path):
    with pytest.raises(DataError, match=message):
        read(tmp_path, written, labelled=labelled)


def test_a_hub_data_set_keeps_its_form(tmp_path):
    """Where a column's type is a struct of lists, and a row may lack it."""
    rows = datasets.Dataset.from_list([{"question": "q", "context": CONTEXT, "answers": SQUAD}])
    rows.to_parquet(tmp_path / "a.parquet")
    spec = DatasetSpec(path=str(tmp_path), evaluation="a.parquet")
    assert data.rows(spec, "a.parquet", "question-answering", {}, tmp_path)["answers"][:] == [SQUAD]
