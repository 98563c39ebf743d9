"""Words and tags from every kind of row, checked against each other and against the model."""

import json

import datasets
import pytest

from compressit import data
from compressit.data import DatasetSpec, labels
from compressit.errors import DataError

NAMES = {0: "O", 1: "B-PER", 2: "I-PER"}
ROWS = [
    {"tokens": ["anna", "lee", "met", "bodo"], "tags": ["B-PER", "I-PER", "O", "B-PER"]},
    {"tokens": ["so"], "tags": ["O"]},
]
IDS = [[1, 2, 0, 1], [0]]


def read(folder, rows, labelled=True, **fields):
    (folder / "rows.jsonl").write_text("\n".join(map(json.dumps, rows)))
    spec = DatasetSpec(path=str(folder), evaluation="rows.jsonl", **fields)
    return data.rows(spec, "rows.jsonl", "token-classification", NAMES, folder, labelled=labelled)


def test_names_become_the_models_ids(tmp_path):
    found = read(tmp_path, ROWS)
    assert found["tokens"][:] == [row["tokens"] for row in ROWS]
    assert found["tags"][:] == IDS


def test_columns_and_tags_of_other_names(tmp_path):
    other = {"O": "none", "B-PER": "start", "I-PER": "inside"}
    rows = [{"words": row["tokens"], "ner": [other[tag] for tag in row["tags"]], "id": 7} for row in ROWS]
    columns = {"tokens": "words", "tags": "ner"}
    mapping = {new: old for old, new in other.items()}
    assert read(tmp_path, rows, columns=columns, labels=mapping)["tags"][:] == IDS
    with pytest.raises(DataError, match=r"no label 'inside'[\s\S]*labels: \{"):
        read(tmp_path, rows, columns=columns)


def test_ids_and_lists_of_a_saved_feature(tmp_path):
    assert (
        read(tmp_path, [{"tokens": row["tokens"], "tags": ids} for row, ids in zip(ROWS, IDS, strict=True)])["tags"][:]
        == IDS
    )
    names = ["I-PER", "B-PER", "O"]
    features = datasets.Features(
        {"tokens": datasets.List(datasets.Value("string")), "tags": datasets.List(datasets.ClassLabel(names=names))}
    )
    swapped = [{"tokens": row["tokens"], "tags": [2 - tag for tag in ids]} for row, ids in zip(ROWS, IDS, strict=True)]
    place = tmp_path / "saved"
    place.mkdir()
    datasets.Dataset.from_list(swapped, features=features).to_parquet(place / "test.parquet")
    spec = DatasetSpec(path=str(place), evaluation="test.parquet")
    # Numbers that have names go by these.
    wanted = [[{0: 2, 1: 1, 2: 0}[2 - tag] for tag in ids] for ids in IDS]
    assert data.rows(spec, "test.parquet", "token-classification", NAMES, tmp_path)["tags"][:] == wanted


def test_texts_are_split_at_white_space(tmp_path):
    (tmp_path / "rows.csv").write_text("tokens,tags\nanna lee met  bodo,B-PER I-PER O B-PER\nso,O\n")
    spec = DatasetSpec(path=str(tmp_path), evaluation="rows.csv")
    found = data.rows(spec, "rows.csv", "token-classification", NAMES, tmp_path)
    assert found["tokens"][:] == [row["tokens"] for row in ROWS]
    assert found["tags"][:] == IDS


def test_training_needs_no_tags(tmp_path):
    bare = [{"tokens": row["tokens"]} for row in ROWS]
    found = read(tmp_path, bare, labelled=False)
    assert found["tags"][:] == [[-1] * 4, [-1]]
    assert labels.unknown(found)
    some = read(tmp_path, [ROWS[0], {"tokens": ["so"], "tags": None}], labelled=False)
    assert some["tags"][:] == [IDS[0], [-1]]
    assert not labels.unknown(some)
    with pytest.raises(DataError, match="no column 'tags' for tags"):
        read(tmp_path, bare)


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ({"tokens": ["anna", "lee"], "tags": ["O"]}, r"line 1 of .*rows\.jsonl has 2 words and 1 tags"),
        ({"tokens": [], "tags": []}, "has no words"),
        ({"tokens": ["anna", None], "tags": ["O", "O"]}, "word 1 is empty"),
        ({"tokens": [1, 2], "tags": ["O", "O"]}, "word 0 is 1, not text"),
        ({"tokens": ["anna", "lee"], "tags": [0, -100]}, "word 1 has no tag"),
        ({"tokens": ["anna"], "tags": [0.5]}, "tag 0.5 is a float"),
        ({"tokens": ["anna"], "tags": [3]}, "label 3 is not one of the model's ids"),
    ],
)
def test_what_is_wrong_with_a_row_is_said(tmp_path, row, message):
    with pytest.raises(DataError, match=message):
        read(tmp_path, [row])
