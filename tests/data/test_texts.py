"""Texts for language models: text files, and which columns a row is read from."""

import json

import pytest

from compressit import data
from compressit.data import DatasetSpec
from compressit.errors import DataError

LINES = "one\n\ntwo \n  three\n"


def read(folder, split="train", **fields):
    spec = DatasetSpec(**{"path": str(folder), "evaluation": split, **fields})
    return data.rows(spec, split, "text-generation", {}, folder)


@pytest.mark.parametrize("split", ["train", "train.txt"])
def test_a_text_file_is_one_document_as_it_stands(split, tmp_path):
    (tmp_path / "train.txt").write_text(LINES)
    assert list(read(tmp_path, split)) == [{"text": LINES}]
    assert list(read(tmp_path, path=str(tmp_path / "train.txt"))) == [{"text": LINES}]


def test_slices_of_a_text_count_lines(tmp_path):
    (tmp_path / "train.txt").write_text(LINES)
    assert list(read(tmp_path, "train[:2]")) == [{"text": "one\n\n"}]
    assert list(read(tmp_path, "train[50%:]")) == [{"text": "two \n  three\n"}]
    with pytest.raises(DataError, match="is empty"):
        read(tmp_path, "train[4:]")


def test_a_text_that_is_not_text(tmp_path):
    (tmp_path / "train.txt").write_bytes(b"\xff\xfe\xfa")
    with pytest.raises(DataError, match=r"train\.txt can't be read"):
        read(tmp_path)


def write(folder, row):
    (folder / "a.jsonl").write_text(json.dumps(row))


@pytest.mark.parametrize(
    ("row", "roles"),
    [
        ({"text": "x", "label": 3}, {"text"}),
        ({"messages": [{"role": "user", "content": "x"}], "id": 1}, {"messages"}),
        ({"continuation": "y", "context": "x"}, {"context", "continuation"}),
        ({"context": "x", "text": "y"}, {"text"}),
    ],
)
def test_the_kind_of_row_follows_from_its_columns(row, roles, tmp_path):
    write(tmp_path, row)
    assert {*read(tmp_path, "a.jsonl").column_names} == roles


def test_a_choice_that_is_not_clear_is_the_recipes(tmp_path):
    write(tmp_path, {"text": "x", "messages": [], "other": "y"})
    with pytest.raises(DataError, match="more than one kind of row for text-generation: text, messages"):
        read(tmp_path, "a.jsonl")
    assert read(tmp_path, "a.jsonl", columns={"text": "other"})["text"][:] == ["y"]


def test_no_kind_of_row_at_all(tmp_path):
    write(tmp_path, {"story": "x"})
    with pytest.raises(DataError, match="no kind of row for text-generation: text, messages, context and") as caught:
        read(tmp_path, "a.jsonl")
    assert "columns: {text: COLUMN}; there are story" in caught.value.hint
    with pytest.raises(DataError, match="no column 'continuation'"):
        read(tmp_path, "a.jsonl", columns={"context": "story"})
