"""What saved artifacts say of new rows: in order, chunk by chunk, whole or not at all."""

import json
import shutil

import numpy as np
import pytest
import torch

from compressit import model as models
from compressit import runtimes, store
from compressit.errors import DataError, IntegrityError, RecipeError, StepError
from compressit.progress import Silent
from compressit.recipe import Recipe
from compressit.report import Artifact, Provenance, Report
from compressit.serving import finished, predict, reading
from compressit.serving.finished import Finished
from compressit.serving.predict import Wanted
from compressit.store import owners
from tests import questions, tagged, tiny
from tests.conftest import sentences


def lines(file):
    return [json.loads(line) for line in file.read_text(encoding="utf-8").splitlines()]


def put(file, rows):
    file.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return file


def said(run, file, **wanted):
    """What is predicted, row by row."""
    written = []
    assert predict.predict(run, file, Wanted(device="cpu", **wanted), written.append, Silent()) == len(written)
    assert all(line.endswith("\n") for line in written)
    return [json.loads(line) for line in written]


def standing(task, folder, columns=None, protocol=None):
    """A run of a model that was saved in folder/checkpoint, as if it were finished."""
    facts = {"bytes": 1, "parameters": 1, "nonzero": 1, "dtypes": {}}
    artifact = Artifact(name="checkpoint", path="checkpoint", runtime="torch", device="cpu", **facts)
    provenance = Provenance(created="", seconds=0, recipe_sha256="", overrides=(), seed=0, device="cpu", model={},
                            data=protocol or {}, versions={}, hardware={})  # fmt: skip
    report = Report(name="standing", task=task, provenance=provenance, original=artifact, steps=(),
                    artifacts=(artifact,), verdicts=())  # fmt: skip
    dataset = {"path": "x", "evaluation": "train", "columns": columns or {}}
    recipe = Recipe.model_validate({"name": "standing", "task": task, "model": {"path": "x"}, "dataset": dataset})
    return Finished(folder, report, recipe)


@pytest.mark.parametrize("artifact", [None, "checkpoint"])
def test_it_says_what_the_run_saw_in_the_order_of_the_rows(done, sentiment, artifact, monkeypatch):
    monkeypatch.setattr(predict, "CHUNK", 70)
    run = finished.opened(done)
    found = said(run, sentiment / "test.jsonl", artifact=artifact, batch_size=9)
    assert [{key: row[key] for key in ("sentence", "label")} for row in found] == lines(sentiment / "test.jsonl")
    with np.load(done / "examples" / f"{artifact or 'onnx'}.npz") as seen:
        logits = torch.from_numpy(seen["logits"])
    for row, scores in zip(found, logits.softmax(-1).tolist(), strict=True):
        spoken = row["prediction"]
        assert spoken["scores"] == pytest.approx({"NEGATIVE": scores[0], "POSITIVE": scores[1]}, abs=1e-5)
        assert spoken["score"] == max(spoken["scores"].values()) == spoken["scores"][spoken["label"]]


def test_the_command_writes_a_whole_file_or_none(done, sentiment, cli, tmp_path):
    output = tmp_path / "out.jsonl"
    arguments = ("predict", done, "--input", sentiment / "test.jsonl", "--output", output, "--artifact", "checkpoint")
    made = cli(*arguments)
    assert made.returncode == 0, made.stderr
    assert "300 rows" in made.stdout
    assert len(lines(output)) == 300
    output.write_text("mine")
    again = cli(*arguments)
    assert again.returncode == 2
    assert "exists already" in again.stderr
    assert output.read_text() == "mine"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["out.jsonl"]


def test_standard_output_takes_the_lines_alone(done, cli, tmp_path):
    file = put(tmp_path / "in.jsonl", [{"sentence": "the film is great", "id": 7}])
    made = cli("predict", done, "--input", file, "--output", "-", "--artifact", "checkpoint")
    assert made.returncode == 0, made.stderr
    (row,) = [json.loads(line) for line in made.stdout.splitlines()]
    assert {*row} == {"sentence", "id", "prediction"}


def test_what_comes_out_is_json_whatever_went_in(done, cli, tmp_path):
    file = tmp_path / "in.jsonl"
    text = "great \x85 film \x7f ##[error]no \n::error::no \u2028"
    file.write_text(
        json.dumps({"sentence": text}, ensure_ascii=False) + '\n{"sentence": "a", "x": NaN, "y": [1e999]}\n'
    )
    made = cli("predict", done, "--input", file, "--output", "-", "--artifact", "checkpoint")
    assert made.returncode == 0, made.stderr
    first, second = (json.loads(line, parse_constant=pytest.fail) for line in made.stdout.split("\n")[:2])
    assert first["sentence"] == text, "as it stands, but nothing that a terminal or a job's log acts on"
    assert not any(each in made.stdout for each in ("\x85", "\x7f", "##["))
    assert (second["x"], second["y"]) == (None, [None])


def test_an_answer_that_is_no_number_is_none(done, tmp_path, monkeypatch):
    file, runtime = put(tmp_path / "in.jsonl", [{"sentence": "great film"}]), runtimes.load("torch")
    whole = runtime.open
    monkeypatch.setattr(runtime, "open", lambda *given: lambda batch: whole(*given)(batch) * torch.nan)
    with pytest.raises(StepError, match=r"what the model says of line 1 of .* is not a number"):
        said(finished.opened(done), file, artifact="checkpoint")


def test_a_file_is_not_read_and_written_at_once(done, cli, tmp_path):
    file = put(tmp_path / "in.jsonl", [{"sentence": "the film is great"}])
    before = file.read_text()
    made = cli("predict", done, "--input", file, "--output", file, "--overwrite")
    assert made.returncode == 2
    assert "is the input itself" in made.stderr
    assert file.read_text() == before


def test_csv_and_parquet_rows_come_back_as_they_stand(done, tmp_path):
    import datetime

    import pyarrow
    from pyarrow import parquet

    run = finished.opened(done)
    (tmp_path / "in.csv").write_text('review,id\n"the film\nis great",007\nawful plot,\n', encoding="utf-8")
    found = said(run, tmp_path / "in.csv", columns={"text": "review"}, artifact="checkpoint")
    assert [(row["review"], row["id"]) for row in found] == [("the film\nis great", "007"), ("awful plot", "")]
    table = {"text": ["great", "awful"], "day": [datetime.date(2024, 1, 2)] * 2, "raw": [b"123", None]}
    parquet.write_table(pyarrow.table(table), tmp_path / "in.parquet")
    found = said(run, tmp_path / "in.parquet", artifact="checkpoint")
    assert [row["text"] for row in found] == ["great", "awful"], "a role's own name stands in for the recipe's column"
    assert (found[0]["day"], found[0]["raw"], found[1]["raw"]) == ("2024-01-02", "3 bytes", None)


GOOD = {"sentence": "the film is great"}


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        ([GOOD, {"text": "other"}], "line 2 of .*in.jsonl has no 'sentence'"),
        ([GOOD, {"sentence": 5}], "line 2 of .*: sentence is 5, not text"),
        ([GOOD, GOOD, {"sentence": None}], "line 3 of .*: sentence is empty"),
        ([{"sentence": "  "}], "line 1 of .*: sentence is empty"),
        ([{"sentense": "x"}], "no column 'sentence' for text; did you mean 'sentense'"),
        ([{**GOOD, "prediction": 1}], "line 1 of .* has 'prediction' already"),
        ([], "holds no rows"),
        ("[1]", "line 1 of .* is not an object"),
        ('{"sentence": "a"}\n{"sentence": "b \\ud800"}', "line 2 of .* holds half a character"),
        ('{"sentence": "a"}\n{"sentence"', "line 2 of .* is not JSON"),
        ('[\n{"sentence": "a"}\n]', "line 1 of .* is not JSON"),
    ],
)
def test_a_wrong_row_is_named_before_any_work(done, tmp_path, rows, message):
    file = tmp_path / "in.jsonl"
    file.write_text(rows if isinstance(rows, str) else "".join(json.dumps(row) + "\n" for row in rows))
    with pytest.raises(DataError, match=message):
        predict.predict(finished.opened(done), file, Wanted(device="cpu"), pytest.fail, Silent())


def test_wrong_csv_lines_and_files_are_named(tmp_path):
    (tmp_path / "a.csv").write_text("text\none,two\n")
    with pytest.raises(DataError, match=r"line 2 of .* has more cells than the header"):
        list(reading.rows(tmp_path / "a.csv"))
    (tmp_path / "a.csv").write_text("text,id,text\none,1,two\n")
    with pytest.raises(DataError, match="has two columns 'text'"):
        list(reading.rows(tmp_path / "a.csv"))
    (tmp_path / "a.jsonl").write_bytes(b'{"text": "\xff"}')
    with pytest.raises(DataError, match="is not UTF-8"):
        list(reading.rows(tmp_path / "a.jsonl"))
    (tmp_path / "a.parquet").write_bytes(b"no")
    with pytest.raises(DataError, match="can't be read"):
        list(reading.rows(tmp_path / "a.parquet"))
    with pytest.raises(DataError, match="unknown kind of file"):
        list(reading.rows(tmp_path / "a.xlsx"))
    with pytest.raises(DataError, match="there is no file"):
        list(reading.rows(tmp_path / "none.jsonl"))


def test_what_makes_no_sense_is_refused(done, sentiment, tmp_path, cli):
    run = finished.opened(done)
    with pytest.raises(
        DataError, match=r"--columns texd=.*: not a role of text-classification here; did you mean 'text'"
    ):
        said(run, sentiment / "test.jsonl", columns={"texd": "sentence"})
    with pytest.raises(RecipeError, match="--vectors is for sentence-similarity"):
        said(run, sentiment / "test.jsonl", vectors=True)
    with pytest.raises(RecipeError, match="predict says nothing for text-generation") as caught:
        said(standing("text-generation", tmp_path), sentiment / "test.jsonl")
    assert "vllm serve" in caught.value.hint
    made = cli("predict", done, "--input", sentiment / "test.jsonl", "--output", tmp_path / "out.csv")
    assert made.returncode == 2
    assert "written as JSON lines" in made.stderr
    made = cli("predict", done, "--input", sentiment / "test.jsonl", "--output", "-", "--columns", "text")
    assert made.returncode == 2
    assert "expected NAME=NAME, such as text=review" in made.stderr


def test_a_flipped_bit_is_never_asked(done, sentiment, tmp_path, cli):
    copy = shutil.copytree(done, tmp_path / "copy")
    weights = copy / "onnx" / "model.onnx"
    held = bytearray(weights.read_bytes())
    held[len(held) // 2] ^= 1
    weights.write_bytes(held)
    made = cli("predict", copy, "--input", sentiment / "test.jsonl", "--output", tmp_path / "out.jsonl")
    assert made.returncode == 6
    assert "onnx/model.onnx: its content changed" in made.stderr
    assert not (tmp_path / "out.jsonl").exists()
    with pytest.raises(IntegrityError):
        finished.opened(copy)


def test_words_get_tags_and_entities(tmp_path):
    tagged.save(tmp_path / "checkpoint", tagged.sentences(200, 1))
    run = standing("token-classification", tmp_path, {"tokens": "words"})
    rows = tagged.sentences(30, 2)
    file = put(tmp_path / "in.jsonl", [{"words": row["tokens"], "n": n} for n, row in enumerate(rows)])
    found = said(run, file)
    right = [tag == true for row, other in zip(found, rows, strict=True)
             for tag, true in zip(row["prediction"]["tags"], other["tags"], strict=True)]  # fmt: skip
    assert np.mean(right) > 0.9
    for row in found:
        assert len(row["prediction"]["tags"]) == len(row["words"])
        for entity in row["prediction"]["entities"]:
            words = row["words"][entity["first"] : entity["last"] + 1]
            assert entity["text"] == " ".join(words)
            assert row["prediction"]["tags"][entity["first"]].endswith(entity["type"])
    assert sum(len(row["prediction"]["entities"]) for row in found) > 30
    (split,) = said(run, put(tmp_path / "one.jsonl", [{"words": "anna lee met the town"}]))
    assert split["words"] == "anna lee met the town"
    assert len(split["prediction"]["tags"]) == 5


def test_questions_get_answers_and_none_only_where_none_was_an_answer(tmp_path):
    questions.save_answerer(tmp_path / "checkpoint", questions.questions(300, 1))
    rows = questions.questions(40, 2)
    file = put(tmp_path / "in.jsonl", [{key: row[key] for key in ("question", "context")} for row in rows])
    found = [row["prediction"] for row in said(standing("question-answering", tmp_path), file)]
    assert np.mean([one["answer"] in row["answers"]["text"] for one, row in zip(found, rows, strict=True)]) > 0.5
    assert all(0 < one["score"] <= 1 and one["answer"] for one in found)
    silent = standing("question-answering", tmp_path, protocol={"no answer": "allowed"})
    for one, other in zip(found, (row["prediction"] for row in said(silent, file)), strict=True):
        assert other["answer"] in ("", one["answer"])


def test_pairs_get_their_cosine_and_lone_texts_their_vector(tmp_path):
    tiny.save("bert-pairs", tmp_path / "checkpoint")
    run = standing("sentence-similarity", tmp_path)
    rows = [{"text": row["sentence"], "text_pair": other["sentence"]}
            for row, other in zip(sentences(20, 1), sentences(20, 2), strict=True)]  # fmt: skip
    file = put(tmp_path / "in.jsonl", rows)
    cosines = [row["prediction"]["cosine"] for row in said(run, file)]
    first = np.array([row["prediction"]["vector"] for row in said(run, file, vectors=True)])
    other = put(tmp_path / "other.jsonl", [{"text": row["text_pair"]} for row in rows])
    second = np.array([row["prediction"]["vector"] for row in said(run, other, vectors=True)])
    alike = (first * second).sum(-1) / np.linalg.norm(first, axis=-1) / np.linalg.norm(second, axis=-1)
    assert cosines == pytest.approx(alike.tolist(), abs=1e-5)
    with pytest.raises(DataError, match="no column 'text_pair' for text_pair"):
        said(run, other)


def test_masks_of_a_text_are_filled_in(tmp_path):
    tiny.save("bert-mask", tmp_path / "checkpoint")
    run = standing("fill-mask", tmp_path)
    texts = ["anna [MASK] the old town", "[MASK] met [MASK]"]
    found = [row["prediction"]["masks"] for row in said(run, put(tmp_path / "in.jsonl", [{"text": t} for t in texts]))]
    assert [len(masks) for masks in found] == [1, 2]
    model = models.load(tmp_path / "checkpoint", "fill-mask")
    encoded = model.processor(texts[0], return_tensors="pt")
    with torch.inference_mode():
        logits = model.module(**encoded).logits[0]
    place = encoded["input_ids"][0].tolist().index(model.processor.mask_token_id)
    best = logits[place].softmax(-1).topk(5)
    assert [each["score"] for each in found[0][0]] == pytest.approx(best.values.tolist(), abs=1e-5)
    assert [each["token"] for each in found[0][0]] == [model.processor.decode([id]) for id in best.indices.tolist()]
    with pytest.raises(DataError, match=r"line 1 of .*: text has no \[MASK\]"):
        said(run, put(tmp_path / "none.jsonl", [{"text": "anna met"}]))


def test_images_are_found_beside_the_rows(tmp_path):
    from PIL import Image

    tiny.save("vit", tmp_path / "checkpoint")
    (tmp_path / "data").mkdir()
    Image.fromarray(np.full((8, 8, 3), 200, np.uint8)).save(tmp_path / "data" / "a.png")
    run = standing("image-classification", tmp_path)
    (row,) = said(run, put(tmp_path / "data" / "in.jsonl", [{"image": "a.png"}]))
    assert row["image"] == "a.png"
    assert len(row["prediction"]["scores"]) == 10
    with pytest.raises(DataError, match=r"line 1 of .*: there is no image file"):
        said(run, put(tmp_path / "data" / "in.jsonl", [{"image": "b.png"}]))


def test_a_file_appears_whole_or_not_at_all(tmp_path):
    target = tmp_path / "out.jsonl"
    with pytest.raises(KeyError), store.written(target) as stream:
        stream.write("half")
        raise KeyError
    assert list(tmp_path.iterdir()) == []
    (tmp_path / f".out.jsonl.tmp-{owners.host()}-99999999-0").write_text("of a process that was killed")
    with store.written(target) as stream:
        stream.write("whole")
        assert not target.exists()
    assert [path.name for path in tmp_path.iterdir()] == ["out.jsonl"]
    with pytest.raises(RecipeError, match="exists already"), store.written(target):
        pytest.fail("nothing is begun")
    with store.written(target, overwrite=True) as stream:
        stream.write("new")
    assert target.read_text() == "new"
    with pytest.raises(RecipeError, match="there is no folder"), store.written(tmp_path / "none" / "out"):
        pytest.fail("nothing is begun")
