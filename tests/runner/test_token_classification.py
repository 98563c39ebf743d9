"""Tagged words through the whole line, in Latin letters and in Chinese."""

import json

import numpy as np
import pytest
import seqeval.metrics
import torch
import transformers

import compressit
from compressit.errors import RecipeError
from tests import tagged

TEXT = """\
name: names
task: token-classification
model: {folder}/model
dataset:
  path: {folder}
  train: train.jsonl
  calibration: train.jsonl[:32]
  evaluation: test.jsonl
  max_length: 16
steps:
  - {{step: drop_layers, keep: 3, choose: divergence}}
  - {{step: prune_ffn, sparsity: 0.25}}
  - {{step: distill, epochs: 1, learning_rate: 1e-3}}
  - {{step: trim_vocabulary}}
exports:
  - {{export: onnx, weights: int8}}
metrics: [entity_f1, accuracy, agreement, kl_divergence, latency, size]
targets:
  - {{metric: entity_f1, max_drop: 0.5}}
  - {{metric: accuracy, min: 0.5, artifact: checkpoint}}
"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    place = tmp_path_factory.mktemp("names")
    for name, count, seed in (("train", 240, 1), ("test", 60, 2)):
        rows = tagged.sentences(count, seed)
        (place / f"{name}.jsonl").write_text("\n".join(map(json.dumps, rows)))
    tagged.save(place / "model", tagged.sentences(240, 1))
    return place


@pytest.fixture(scope="module")
def run(folder, tmp_path_factory):
    place = tmp_path_factory.mktemp("run")
    (place / "r.yaml").write_text(TEXT.format(folder=folder))
    return place / "out", compressit.apply(place / "r.yaml", place / "out")


def test_the_report_judges_entities(run):
    place, report = run
    assert report.exit_code == 0, [verdict.why for verdict in report.verdicts]
    assert [artifact.name for artifact in report.artifacts] == ["checkpoint", "onnx"]
    found = {reading.metric: reading for reading in report.artifacts[0].readings}
    assert found["entity_f1"].low < found["entity_f1"].value <= found["entity_f1"].high
    assert found["entity_f1"].baseline > 0.8
    assert 0.5 < found["agreement"].value < 1
    data = json.loads((place / "report.json").read_text())["provenance"]["data"]
    assert data["words"] == sum(len(row["tokens"]) for row in tagged.sentences(60, 2))
    assert data["context length"] == 16
    assert data["rows in several windows"] > 0


def test_the_figures_are_those_of_plain_transformers(run, folder):
    """Opened without compressit, the checkpoint tags each window's words as the report counts."""
    place, report = run
    tokens = transformers.AutoTokenizer.from_pretrained(place / "checkpoint")
    model = transformers.AutoModelForTokenClassification.from_pretrained(place / "checkpoint")
    rows = tagged.sentences(60, 2)
    with np.load(place / "examples" / "checkpoint.npz") as said:
        chosen = np.split(said["names"][said["logits"].argmax(-1)], np.cumsum(said["counts"])[:-1])
    short = [row for row in rows if len(tokens(row["tokens"], is_split_into_words=True)["input_ids"]) <= 16]
    assert short
    for row in short:
        batch = tokens(row["tokens"], is_split_into_words=True, return_tensors="pt")
        with torch.no_grad():
            likeliest = model(**batch).logits[0].argmax(-1).tolist()
        first = [batch.word_ids().index(word) for word in range(len(row["tokens"]))]
        assert [model.config.id2label[likeliest[place]] for place in first] == chosen[rows.index(row)].tolist()
    wanted = seqeval.metrics.f1_score([row["tags"] for row in rows], [each.tolist() for each in chosen])
    assert report.artifacts[0].readings[0].value == pytest.approx(wanted)


def test_entities_need_tags_that_hold_some(folder, write):
    text = TEXT.format(folder=folder).replace("[entity_f1,", "[{metric: entity_f1, scheme: IOE1},")
    with pytest.raises(RecipeError, match="entity_f1: the model's tags don't follow IOE1: B-PER, B-LOC"):
        compressit.apply(write(text))
