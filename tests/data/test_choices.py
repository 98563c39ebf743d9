"""Choices and answers in every form that data sets have them in, and what is wrong with others."""

import json

import pytest

from compressit import data
from compressit.data import DatasetSpec
from compressit.errors import DataError

ARC = {"text": ["a fox", "a crown"], "label": ["1", "2"]}
LIST = ["a fox", "a crown"]


def read(tmp_path, *rows, labelled=True):
    written = [{"id": n, "context": "What shines?", **row} for n, row in enumerate(rows)]
    (tmp_path / "a.jsonl").write_text("\n".join(map(json.dumps, written)))
    spec = DatasetSpec(path=str(tmp_path), evaluation="a.jsonl")
    return data.rows(spec, "a.jsonl", "multiple-choice", {}, tmp_path, labelled=labelled)


@pytest.mark.parametrize(
    "row",
    [
        {"choices": LIST, "answer": 1},
        {"choices": LIST, "answer": "1"},
        {"choices": LIST, "answer": "B"},
        {"choices": LIST, "answer": "a crown"},
        {"choices": ARC, "answer": "2"},
        {"choices": {"text": LIST, "label": ["A", "B"]}, "answer": "B"},
        {"choice_a": "a fox", "choice_b": "a crown", "answer": 1},
    ],
)
def test_all_forms_mean_the_same(row, tmp_path):
    found = read(tmp_path, row)
    assert found.column_names == ["context", "choices", "answer"]
    assert found[0] == {"context": "What shines?", "choices": LIST, "answer": 1}


@pytest.mark.parametrize(
    ("row", "said"),
    [
        ({"choices": LIST, "answer": 2}, r"line 1 of .*a.jsonl: answer '2' is none of the 2 choices"),
        ({"choices": LIST, "answer": "C"}, r"answer 'C' is none of the 2 choices"),
        ({"choices": ["1", "0"], "answer": "1"}, r"answer '1' may mean more than one of the 2 choices"),
        ({"choices": LIST, "answer": 0.5}, r"answer 0.5 is neither a choice's place nor a text"),
        ({"choices": LIST, "answer": None}, r"line 1 of .*a.jsonl has no answer"),
        ({"choices": ["a fox"], "answer": 0}, r"not two texts or more"),
        ({"choices": ["a fox", " "], "answer": 0}, r"a choice is empty"),
        ({"choices": {"text": LIST, "label": ["A"]}, "answer": "A"}, r"2 choices have 1 labels"),
        ({"choices": "a fox or a crown", "answer": 0}, r"not two texts or more"),
        ({"choice_a": "a fox", "answer": 0}, r"no kind of row"),
    ],
)
def test_what_is_wrong_is_said_with_its_place(row, said, tmp_path):
    with pytest.raises(DataError, match=said):
        read(tmp_path, row)
