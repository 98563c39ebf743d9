"""Data from every kind of place, its columns and labels checked against the recipe and the model."""

import csv
import json
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from compressit import data
from compressit.data import DatasetSpec, labels, places, source
from compressit.errors import DataError, RetryableError

NAMES = {0: "NEGATIVE", 1: "POSITIVE"}
ROWS = [{"text": f"film {n}", "label": n % 2} for n in range(20)]


def read(folder, split="train", names=NAMES, task="text-classification", **fields):
    spec = DatasetSpec(**{"evaluation": split, **fields})
    return data.rows(spec, split, task, names, folder)


def write_csv(file, rows, delimiter=","):
    with file.open("w", newline="") as stream:
        writer = csv.DictWriter(stream, rows[0].keys(), delimiter=delimiter)
        writer.writeheader()
        writer.writerows(rows)


@pytest.fixture
def files(tmp_path):
    write_csv(tmp_path / "a.csv", ROWS)
    write_csv(tmp_path / "a.tsv", ROWS, "\t")
    (tmp_path / "a.jsonl").write_text("\n".join(map(json.dumps, ROWS)))
    (tmp_path / "a.json").write_text(json.dumps(ROWS))
    import datasets

    datasets.Dataset.from_list(ROWS).to_parquet(tmp_path / "a.parquet")
    table = datasets.Dataset.from_list(ROWS).data.table
    with pa.ipc.new_stream(str(tmp_path / "a.arrow"), table.schema) as stream:
        stream.write_table(table)
    return tmp_path


@pytest.mark.parametrize("name", ["a.csv", "a.tsv", "a.jsonl", "a.json", "a.parquet", "a.arrow"])
def test_every_kind_of_file_gives_the_same_rows(files, name):
    for path, split in ((name, "train"), (".", name)):
        found = read(files, split, path=path)
        assert list(found) == ROWS


SPLITS = "---\nconfigs:\n- config_name: default\n  data_files: [{split: train, path: a.csv}]\n---\n"


def test_edited_rows_of_a_folder_are_read_again(tmp_path, monkeypatch):
    """One that a README describes, as of a clone from the hub, and that is called as another elsewhere."""
    for name in ("one", "two"):
        folder = tmp_path / name / "org" / "films"
        folder.mkdir(parents=True)
        (folder / "README.md").write_text(SPLITS)
        write_csv(folder / "a.csv", [{**row, "text": f"{name} {row['text']}"} for row in ROWS])
        assert read(tmp_path / name, path="org/films")["text"][0] == f"{name} film 0"
    for text in ("edited", "again"):
        write_csv(folder / "a.csv", [{**row, "text": text} for row in ROWS])
        assert read(tmp_path / "two", path="org/films")["text"][0] == text
        monkeypatch.chdir(tmp_path / "two")
        assert read(Path(), path="org/films")["text"][0] == text
    (tmp_path / "elsewhere").mkdir()
    with pytest.raises(DataError, match=r"is a folder where this runs, and no folder where the recipe lies"):
        read(tmp_path / "elsewhere", path="org/films")


def test_groups_go_along_where_rows_are_judged(files):
    rows = [{**row, "query": f"q{number // 3}"} for number, row in enumerate(ROWS)]
    (files / "q.jsonl").write_text("\n".join(map(json.dumps, rows)))
    named = {"path": ".", "columns": {"group": "query"}}
    found = read(files, "q.jsonl", **named)
    assert found["group"][:4] == ["q0", "q0", "q0", "q1"]
    with pytest.raises(DataError, match="no column 'query' for group"):
        read(files, "a.jsonl", **named)
    spec = DatasetSpec(evaluation="q.jsonl", **named)
    train = data.rows(spec, "a.jsonl", "text-classification", NAMES, files, labelled=False)
    assert train.column_names == ["text", "label"], "who trains needs no groups"
    assert data.repeated(found, train) == 20, "an example is the same in any group"
    (files / "gap.jsonl").write_text("\n".join(json.dumps({**row, "query": None}) for row in rows[:2]))
    with pytest.raises(DataError, match=r"line 1 of .*gap\.jsonl: group is empty"):
        read(files, "gap.jsonl", **named)


@pytest.mark.parametrize(("name", "known"), [("a.csv", True), ("a.tsv", True), ("a.jsonl", True), ("a.json", False),
                                             ("a.parquet", False), ("no.csv", False)])  # fmt: skip
def test_columns_are_known_before_a_file_is_opened(files, name, known):
    spec = DatasetSpec(path=".", evaluation=f"{name}[:5]")
    assert source.columns(spec, spec.evaluation, files) == (["text", "label"] if known else None)


@pytest.mark.parametrize(
    ("split", "rows"),
    [
        ("a.csv[:5]", range(5)),
        ("a.csv[15:]", range(15, 20)),
        ("a.csv[5:7]", range(5, 7)),
        ("a.csv[:10%]", range(2)),
        ("a.csv[50%:]", range(10, 20)),
        ("a.csv[:99]", range(20)),
    ],
)
def test_slices(files, split, rows):
    assert list(read(files, split, path=".")) == [ROWS[row] for row in rows]


def test_a_folder_of_splits_as_the_hub_lays_them_out(tmp_path):
    for name in ("train", "validation"):
        write_csv(tmp_path / f"{name}.csv", ROWS)
    assert len(read(tmp_path, "validation", path=".")) == 20
    with pytest.raises(DataError, match="did you mean 'validation'"):
        read(tmp_path, "validaton", path=".")


def test_an_image_folder(tmp_path):
    from PIL import Image

    for name in ("cat", "dog"):
        (tmp_path / "train" / name).mkdir(parents=True)
        for number in range(3):
            Image.fromarray(np.full((8, 8, 3), number, np.uint8)).save(tmp_path / "train" / name / f"{number}.png")
    found = read(tmp_path, names={0: "dog", 1: "cat"}, task="image-classification", path=".")
    assert sorted(found["label"]) == [0, 0, 0, 1, 1, 1]
    assert found[0]["label"] == 1, "the folder's name is the label, by the model's ids"
    assert found[0]["image"].size == (8, 8)


def test_a_table_of_image_files(tmp_path):
    from PIL import Image

    (tmp_path / "scans").mkdir()
    Image.fromarray(np.zeros((4, 4), np.uint8)).save(tmp_path / "scans" / "0.png")
    write_csv(tmp_path / "table.csv", [{"file": "scans/0.png", "kind": "cat"}])
    columns = {"image": "file", "label": "kind"}
    fields = {"names": {0: "dog", 1: "cat"}, "task": "image-classification", "columns": columns}
    found = read(tmp_path, "table.csv", path=".", **fields)
    assert found[0]["image"].size == (4, 4)
    assert found[0]["label"] == 1
    write_csv(tmp_path / "table.csv", [{"file": "scans/1.png", "kind": "cat"}])
    with pytest.raises(DataError, match=r"there is no image file .*1\.png"):
        read(tmp_path, "table.csv", path=".", **fields)


def test_columns_are_named_and_a_wrong_name_gets_a_suggestion(tmp_path):
    write_csv(tmp_path / "a.csv", [{"sentence": "fine", "gold": 1}])
    found = read(tmp_path, path="a.csv", columns={"text": "sentence", "label": "gold"})
    assert list(found) == [{"text": "fine", "label": 1}]
    with pytest.raises(DataError, match=r"no column 'sentnce' for text; did you mean 'sentence'"):
        read(tmp_path, path="a.csv", columns={"text": "sentnce", "label": "gold"})
    with pytest.raises(DataError, match="no column 'text' for text") as caught:
        read(tmp_path, path="a.csv")
    assert "columns: {text: COLUMN}" in str(caught.value)


def test_pairs(tmp_path):
    write_csv(tmp_path / "a.csv", [{"text": "is it", "text_pair": "it is", "label": 1}])
    assert read(tmp_path, path="a.csv").column_names == ["text", "text_pair", "label"]


@pytest.mark.parametrize(
    ("rows", "said"),
    [
        ([{"text": "a", "label": 0}, {"text": None, "label": 1}], r"line 2 of .*a\.jsonl: text is empty"),
        ([{"text": "a", "label": 0}, {"text": "b", "label": None}], r"line 2 of .*a\.jsonl has no label"),
        ([{"text": "a", "label": -1}], "has no label"),
        ([{"text": "a", "label": 0.5}], "not a class"),
        ([{"text": 3, "label": 1}], "text is 3, not text"),
        ([{"text": "a", "label": 2}], "label 2 is not one of the model's ids"),
        ([{"text": "a", "label": "neutral"}], "the model has no label 'neutral'"),
    ],
)
def test_rows_that_no_model_can_read_are_named(tmp_path, rows, said):
    (tmp_path / "a.jsonl").write_text("\n".join(map(json.dumps, rows)))
    with pytest.raises(DataError, match=said):
        read(tmp_path, path="a.jsonl")


@pytest.mark.parametrize("text", ["{broken", "", "\x00\x01\x02"])
def test_a_broken_file_is_an_error_that_names_it(tmp_path, text):
    (tmp_path / "a.jsonl").write_text(text)
    with pytest.raises(DataError, match=r"a\.jsonl|empty"):
        read(tmp_path, path="a.jsonl")


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ('{"text": "a", "label": 0}\n\n{"text": "b", "label"', "line 3 is not JSON"),
        ("\n\n", "it holds no rows"),
        ('{"text": "a", "label": 0, "more": ' + "[" * 100_000 + "]" * 100_000 + "}", "line 1 of .* 500 levels deep"),
    ],
    ids=["cut", "blank", "deep"],
)
def test_what_is_wrong_with_json_lines_is_said_by_line(tmp_path, text, said):
    (tmp_path / "a.jsonl").write_text(text)
    with pytest.raises(DataError, match=said):
        read(tmp_path, path="a.jsonl")


def test_a_table_without_rows_says_so(tmp_path):
    (tmp_path / "a.csv").write_text("text,label\n")
    with pytest.raises(DataError, match="it holds no rows"):
        read(tmp_path, path="a.csv")


def test_a_single_file_has_one_split(files):
    with pytest.raises(DataError, match="only split is train; there is no 'test'"):
        read(files, "test", path="a.csv")


def test_an_empty_slice_is_an_error(files):
    with pytest.raises(DataError, match="is empty"):
        read(files, "a.csv[30:]", path=".")


def test_what_is_nowhere_says_so(tmp_path):
    with pytest.raises(RetryableError, match="is not a local file or folder"):
        read(tmp_path, path="glue", name="sst2")
    with pytest.raises(DataError, match="download and unpack it first"):
        read(tmp_path, path="http://example.com/a.zip")
    with pytest.raises(DataError, match="did you mean 'digits'"):
        read(tmp_path, path="demo:digit")


def ids(values, names, feature=None, mapping=None):
    import datasets

    rows = datasets.Dataset.from_dict({"label": values, "text": values})
    if feature:
        rows = rows.cast_column("label", datasets.ClassLabel(names=feature))
    return labels.to_ids(rows, names, mapping, places.counted)["label"][:]


def test_names_meet_the_models_whatever_their_order_and_case():
    assert ids(["positive", "negative"], NAMES) == [1, 0]
    assert ids([0, 1], {0: "POSITIVE", 1: "NEGATIVE"}, feature=["negative", "positive"]) == [1, 0]
    assert ids([0, 1], {0: "LABEL_0", 1: "LABEL_1"}, feature=["negative", "positive"]) == [0, 1]
    assert ids([0, 1], NAMES, feature=["0", "1"]) == [0, 1]


def test_a_swapped_or_foreign_map_is_an_error_that_shows_both():
    with pytest.raises(DataError, match="the data names its labels otherwise") as caught:
        ids([0, 1], NAMES, feature=["entailment", "contradiction"])
    assert "data:  entailment, contradiction" in str(caught.value)
    assert "model: NEGATIVE, POSITIVE" in str(caught.value)
    assert "labels: {entailment: NEGATIVE, contradiction: POSITIVE}" in str(caught.value)
    with pytest.raises(DataError) as caught:
        ids([0, 1], NAMES, feature=["good", "negative"])
    assert "labels: {good: POSITIVE, negative: NEGATIVE}" in str(caught.value), "equal names stay together"


def test_one_strange_label_is_all_that_has_to_be_said():
    names = {number: f"topic {number}" for number in range(77)} | {77: "testing"}
    known = [name for name in names.values() if name != "topic 3"]
    with pytest.raises(DataError, match=r"the model has no label 'tesing' \(row 78\)") as caught:
        ids([*known, "tesing"], {**names, 78: "testings"})
    assert "labels: {tesing: testings}" in caught.value.hint, "of those that no other label has, the one most like it"
    assert "and 59 more" in str(caught.value)
    assert ids(["topic 1", "zzz"], names, mapping={"zzz": "testing"}) == [1, 77]
    with pytest.raises(DataError) as caught:
        ids([f"odd {number}" for number in range(8)], names)
    assert caught.value.hint.endswith("odd 4: topic 4}, and so on for 3 more")
    with pytest.raises(DataError, match=r"labels: \{nice: LABEL\}"):
        ids(["positive", "negative", "nice"], NAMES)


@pytest.mark.parametrize(
    ("name", "text", "split", "said"),
    [
        ("a.jsonl", '{"text": "x"}\n\n{"text": "y"}\n{"text": null}\n', "{}", "line 4 of {}: text is empty"),
        ("a.jsonl", '{"text": "x"}\n\n{"text": "y"}\n{"text": null}\n', "{}[50%:]", "line 4 of {}: text is empty"),
        ("a.json", '[{"text": "x"},\n{"text": null}]', "{}", "row 2 of split 'a.json': text is empty"),
        ("a.csv", 'text\n"x\ny"\n""\n', "{}", "line 4 of {}: text is empty"),
    ],
)
def test_a_row_is_named_by_its_line_where_there_are_lines(tmp_path, name, text, split, said):
    (tmp_path / name).write_text(text)
    with pytest.raises(DataError) as caught:
        read(tmp_path, split.format(name), path=".", task="fill-mask")
    assert said.format(tmp_path / name) in str(caught.value)


def test_the_recipe_may_say_which_is_which():
    mapping = {"bad": "negative", "good": "POSITIVE"}
    assert ids(["good", "bad"], NAMES, mapping=mapping) == [1, 0]
    assert ids([0, 1], NAMES, feature=["good", "bad"], mapping=mapping) == [1, 0]
    with pytest.raises(DataError, match="the model has no nice"):
        ids(["good", "bad"], NAMES, mapping={"good": "nice", "bad": "negative"})
    with pytest.raises(DataError, match="no line for bad"):
        ids(["good", "bad"], NAMES, mapping={"good": "positive"})


def test_a_cut_is_where_the_recipe_says_and_batches_are_padded_to_their_longest(sentiment):
    from compressit import model as models

    model = models.load(sentiment / "model", "text-classification")
    found = read(sentiment, "test.jsonl", path=".", columns={"text": "sentence"})
    places, widths = [], []
    for some, batch in data.batches(found, model, 16, max_length=8):
        places += some
        widths.append(batch["input_ids"].shape[1])
        assert bool((batch["attention_mask"].sum(-1).max() == batch["input_ids"].shape[1]).item())
    assert sorted(places) == list(range(300))
    assert max(widths) == 8


def test_a_cut_beyond_the_models_limit_is_an_error(sentiment):
    from compressit import model as models

    model = models.load(sentiment / "model", "text-classification")
    found = read(sentiment, "test.jsonl[:4]", path=".", columns={"text": "sentence"})
    with pytest.raises(DataError, match="max_length 65 is beyond the 64 tokens"):
        next(data.batches(found, model, 4, max_length=65))


def test_fingerprints_tell_rows_apart(files):
    prints = data.fingerprints(read(files, path="a.csv"))
    assert len({*prints.tolist()}) == 20
    assert prints.tolist() == data.fingerprints(read(files, path="a.jsonl")).tolist()


@pytest.mark.parametrize("name", ["digits", "stdlib"])
def test_the_demos_are_real_and_keep_train_and_test_apart(name):
    demo = source.demo(f"demo:{name}")
    splits = demo.splits()
    assert {*splits} == {"train", "test"}
    assert len(splits["test"]) > 500
    train, test = ({*data.fingerprints(splits[part]).tolist()} for part in ("train", "test"))
    # Two writers may draw the same 64 pixels.
    assert len(train & test) <= 2
    assert len({*splits["train"]["label"]}) >= 7
