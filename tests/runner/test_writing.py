"""Models that write texts through the whole line: translations by a BART, summaries by a T5 that wants a prefix."""

import json
import shutil

import numpy as np
import pytest
import torch
import transformers

import compressit
from compressit.compare import comparing
from compressit.compare.runs import open_all
from compressit.errors import DataError, ExitCode
from compressit.progress import Silent
from compressit.report import flips, kept
from compressit.serving import drift, predict
from compressit.serving.finished import opened
from tests import written

TRANSLATE = """\
name: words
task: translation
model: model
dataset:
  path: .
  train: train.jsonl
  calibration: train.jsonl[:32]
  evaluation: test.jsonl
  columns: {text: words.en, translation: words.de}
  max_length: 16
  generation: {num_beams: 2, max_new_tokens: 8}
steps:
  - {step: drop_layers, keep: 2, stack: decoder, choose: influence}
  - {step: distill, epochs: 2, learning_rate: 1e-3}
metrics: [bleu, chrf, agreement, {metric: latency, batch_size: 2}, size]
targets:
  - {metric: bleu, max_drop: 30}
  - {metric: size, max_ratio: 0.9}
"""
SUMMARIZE = """\
name: gist
task: summarization
model: model
dataset:
  path: .
  train: train.jsonl
  calibration: train.jsonl[:32]
  evaluation: test.jsonl
  prefix: "say: "
  max_target: 8
steps:
  - {step: prune_wanda, sparsity: 0.3}
  - {step: finetune, epochs: 1, learning_rate: 1e-3}
metrics: [rouge, agreement, nonzero]
targets:
  - {metric: rouge, max_drop: 0.5}
"""


def nested(rows):
    return [{"words": {"en": row["text"], "de": row["translation"]}} for row in rows]


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """One run of everything: its folder and its report."""
    folder = tmp_path_factory.mktemp("words")
    written.save_writer(folder / "model", written.pairs(600, 1), "bart", epochs=5)
    written.write(folder, train=nested(written.pairs(300, 3)), test=nested(written.pairs(60, 2)))
    (folder / "r.yaml").write_text(TRANSLATE)
    return folder, compressit.apply(folder / "r.yaml", folder / "out", waterfall=False)


def test_targets_are_judged_by_what_is_generated(run):
    _, report = run
    assert report.exit_code == 0, [verdict.why for verdict in report.verdicts]
    (artifact,) = report.artifacts
    found = {reading.metric: reading for reading in artifact.readings}
    assert 50 < found["bleu"].value <= 100
    assert found["bleu"].low < found["bleu"].value
    assert found["agreement"].value > 0.3
    assert artifact.multiplications < 0.9
    about = report.provenance.data
    assert about["generation"] == "max_new_tokens 8, num_beams 2"
    assert about["bleu"].startswith("sacrebleu nrefs:1|case:mixed|eff:no|tok:13a|smooth:exp|version:")
    assert found["latency"].details["batch_size"] == 2


def test_plain_transformers_writes_the_same_from_the_checkpoint(run):
    folder, _ = run
    tokens = transformers.AutoTokenizer.from_pretrained(folder / "out" / "checkpoint")
    model = transformers.AutoModelForSeq2SeqLM.from_pretrained(folder / "out" / "checkpoint")
    said = kept.said(folder / "out", "translation", "checkpoint")
    rows = written.pairs(60, 2)
    assert said.references == [row["translation"] for row in rows]
    inputs = tokens([row["text"] for row in rows], padding=True, return_tensors="pt")
    with torch.inference_mode():
        made = model.generate(**inputs, num_beams=2, max_new_tokens=8)
    assert tokens.batch_decode(made, skip_special_tokens=True) == said.texts
    assert model.config.decoder_layers == 2


def test_texts_that_got_worse_are_shown(run):
    folder, _ = run
    (found,) = flips.read(folder / "out", "translation", ["checkpoint"], lambda example: {"text": "old house"})
    original = kept.said(folder / "out", "translation", "original")
    assert found.total == 60
    worse = kept.said(folder / "out", "translation", "checkpoint").worse(original)
    assert found.count == (worse > 0).sum() == len(found.worst)
    for flip in found.worst:
        assert flip.change.truth in original.references
        assert "(F1 " in flip.change.before
        assert flip.text == "old house"


def test_new_texts_are_translated(run, tmp_path):
    folder, _ = run
    rows = [{"id": n, "text": row["text"]} for n, row in enumerate(written.pairs(60, 2)[:7])]
    written.write(tmp_path, new=rows)
    lines = []
    wanted = predict.Wanted(batch_size=3, device="cpu", columns={"text": "text"})
    assert predict.predict(opened(folder / "out"), tmp_path / "new.jsonl", wanted, lines.append, Silent()) == 7
    as_the_recipe_has_them = [{"words": {"en": row["text"]}} for row in rows]
    written.write(tmp_path, nested=as_the_recipe_has_them)
    wanted, again = predict.Wanted(batch_size=3, device="cpu"), []
    predict.predict(opened(folder / "out"), tmp_path / "nested.jsonl", wanted, again.append, Silent())
    said = kept.said(folder / "out", "translation", "checkpoint").texts
    assert [json.loads(line)["prediction"]["text"] for line in again] == said[:7]
    assert [json.loads(line) for line in lines] == [
        {**row, "prediction": {"text": text}} for row, text in zip(rows, said, strict=False)
    ]


def test_fresh_texts_are_held_against_the_report(run, tmp_path, measured_here):
    finished = opened(run[0] / "out")

    def checked(rows):
        written.write(tmp_path, fresh=rows)
        wanted = drift.Wanted(str(tmp_path / "fresh.jsonl"), max_drop=0.1)
        return drift.check(finished, wanted, Silent())

    same = checked(nested(written.pairs(120, 5)))
    assert [verdict.metric for verdict in same.verdicts] == ["bleu", "chrf"]
    assert same.exit_code is not ExitCode.TARGET_MISSED
    assert "10.0000 is allowed" in same.verdicts[0].why, "a tenth of BLEU's hundred"
    forward = [{**row, "translation": " ".join(row["translation"].split()[::-1])} for row in written.pairs(60, 6)]
    assert checked(nested(forward)).exit_code is ExitCode.TARGET_MISSED
    with pytest.raises(DataError, match=r"has no column 'words\.de' for translation"):
        checked([{"words": {"en": "old house"}}] * 3)


def test_a_run_agrees_with_its_copy(run, tmp_path):
    shutil.copytree(run[0] / "out", tmp_path / "copy")
    one, other = open_all([run[0] / "out", tmp_path / "copy"])
    found = comparing.runs(one, [other])
    differences = {each.metric: each for each in found.candidates[0].differences}
    assert differences["bleu"].difference == 0
    assert found.candidates[0].agreement == 1


@pytest.fixture(scope="module")
def gist(tmp_path_factory):
    """Summaries here are translations word by word, from first to last, of texts that begin with "say:"."""
    folder = tmp_path_factory.mktemp("gist")

    def rows(count, seed):
        made = written.pairs(count, seed, "summary")
        return [{**row, "summary": " ".join(row["summary"].split()[::-1])} for row in made]

    written.save_writer(folder / "model", rows(300, 1), "t5", "summary", epochs=6, prefix="say: ")
    written.write(folder, train=rows(100, 3), test=rows(40, 2))
    (folder / "r.yaml").write_text(SUMMARIZE)
    return folder, compressit.apply(folder / "r.yaml", folder / "out", waterfall=False)


def test_summaries_are_judged_by_rouge(gist):
    folder, report = gist
    (artifact,) = report.artifacts
    found = {reading.metric: reading for reading in artifact.readings}
    assert 0.1 < found["rouge"].value <= 1
    assert {*found["rouge"].details} == {"rouge1", "rouge2", "rougeLsum"}
    assert found["nonzero"].value < 0.8
    assert report.provenance.data["prefix"] == "say: "
    said = kept.said(folder / "out", "summarization", "checkpoint")
    assert np.mean([len(text.split()) for text in said.texts]) > 2


def test_what_a_model_learned_behind_a_prefix_hangs_on_it(gist):
    """The checkpoint was trained and calibrated with it, and plain transformers needs it too."""
    folder, _ = gist
    tokens = transformers.AutoTokenizer.from_pretrained(folder / "out" / "checkpoint")
    model = transformers.AutoModelForSeq2SeqLM.from_pretrained(folder / "out" / "checkpoint")
    said = kept.said(folder / "out", "summarization", "checkpoint")
    rows = [json.loads(line) for line in (folder / "test.jsonl").read_text().splitlines()]
    inputs = tokens([f"say: {row['text']}" for row in rows], padding=True, return_tensors="pt")
    made = model.generate(**inputs)
    assert tokens.batch_decode(made, skip_special_tokens=True) == said.texts
