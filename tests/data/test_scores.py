"""Scores of pairs: numbers, or NaN where none is needed."""

import json
import math

import pytest

from compressit import data
from compressit.data import DatasetSpec, labels
from compressit.errors import DataError

ROWS = [{"text": "a", "text_pair": "b", "score": 3}, {"text": "c", "text_pair": "d", "score": 0.5}]


def read(folder, rows, labelled=True, **fields):
    (folder / "rows.jsonl").write_text("\n".join(map(json.dumps, rows)))
    spec = DatasetSpec(path=str(folder), evaluation="rows.jsonl", **fields)
    return data.rows(spec, "rows.jsonl", "sentence-similarity", {}, folder, labelled=labelled)


def test_scores_are_numbers(tmp_path):
    assert read(tmp_path, ROWS)["score"][:] == [3.0, 0.5]
    columns = {"text": "s1", "text_pair": "s2", "score": "similarity"}
    other = [dict(zip(columns.values(), row.values(), strict=True)) for row in ROWS]
    assert read(tmp_path, other, columns=columns)["score"][:] == [3.0, 0.5]


def test_training_needs_neither_scores_nor_pairs(tmp_path):
    for drop in (("score",), ("score", "text_pair"), ("text_pair",)):
        rows = [{role: value for role, value in row.items() if role not in drop} for row in ROWS]
        found = read(tmp_path, rows, labelled=False)
        assert all(map(math.isnan, found["score"]))
        assert labels.unknown(found)
        with pytest.raises(DataError, match="no column"):
            read(tmp_path, rows)
    assert not labels.unknown(read(tmp_path, ROWS, labelled=False))


@pytest.mark.parametrize(
    ("score", "message"),
    [
        (None, r"line 2 of .*rows\.jsonl has no score"),
        ("high", "score 'high' is not a number"),
        (True, "score True is not a number"),
    ],
)
def test_other_scores_are_refused(tmp_path, score, message):
    with pytest.raises(DataError, match=message):
        read(tmp_path, [ROWS[0] if score is None else {**ROWS[0], "score": score}, {**ROWS[1], "score": score}])
