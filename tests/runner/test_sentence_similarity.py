"""A model of sentence vectors through the whole line."""

import json

import numpy as np
import pytest
import torch
import transformers
from scipy.stats import spearmanr

import compressit
from compressit.errors import RecipeError
from tests import paired, tiny

TEXT = """\
name: alike
task: sentence-similarity
model: {folder}/model
dataset:
  path: {folder}
  train: train.jsonl
  calibration: train.jsonl[:32]
  evaluation: test.jsonl
  columns: {{text_pair: other}}
steps:
  - {{step: drop_layers, keep: 3, choose: divergence}}
  - {{step: prune_ffn, sparsity: 0.25}}
  - {{step: distill, epochs: 2, learning_rate: 1e-3, alpha: 0.0}}
exports:
  - {{export: onnx, weights: int8}}
metrics: [spearman, pearson, latency, size]
targets:
  - {{metric: spearman, max_drop: 0.3}}
"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Pairs, those to learn from without scores, and a model whose vectors are made in a way of its own."""
    place = tmp_path_factory.mktemp("alike")
    for name, count, seed, roles in (
        ("train", 160, 1, ["text", "other"]),
        ("test", 120, 2, ["text", "other", "score"]),
    ):
        rows = [{**row, "other": row["text_pair"]} for row in paired.pairs(count, seed)]
        lines = [json.dumps({role: row[role] for role in roles}) for row in rows]
        (place / f"{name}.jsonl").write_text("\n".join(lines))
    tiny.save("bert-pairs", place / "model")
    paired.modules(place / "model", pooling="max", length=12)
    return place


@pytest.fixture(scope="module")
def run(folder, tmp_path_factory):
    place = tmp_path_factory.mktemp("run")
    (place / "r.yaml").write_text(TEXT.format(folder=folder))
    return place / "out", compressit.apply(place / "r.yaml", place / "out")


def test_the_report_judges_the_order(run):
    place, report = run
    assert report.exit_code == 0, [verdict.why for verdict in report.verdicts]
    assert [artifact.name for artifact in report.artifacts] == ["checkpoint", "onnx"]
    for artifact in report.artifacts:
        found = {reading.metric: reading for reading in artifact.readings}
        assert found["spearman"].low < found["spearman"].value < found["spearman"].high
        assert found["spearman"].baseline > 0.5
    data = json.loads((place / "report.json").read_text())["provenance"]["data"]
    assert (data["pooling"], data["similarity"], data["examples"]) == ("max, normalised", "cosine", 120)
    assert report.artifacts[1].notes["cosine"] > 0.9


def test_the_figures_are_those_of_plain_transformers(run):
    """Opened without compressit, each text alone gives the vectors that the report is about."""
    place, report = run
    checkpoint = place / "checkpoint"
    tokens = transformers.AutoTokenizer.from_pretrained(checkpoint)
    model = transformers.AutoModel.from_pretrained(checkpoint)
    assert len(model.encoder.layer) == 3
    rows = paired.pairs(120, 2)

    def vector(text):
        with torch.no_grad():
            batch = tokens(text, truncation=True, max_length=12, return_tensors="pt")
            return model(**batch).last_hidden_state[0].max(0).values

    cosines = [float(torch.cosine_similarity(vector(r["text"]), vector(r["text_pair"]), dim=0)) for r in rows]
    with np.load(place / "examples" / "checkpoint.npz") as said:
        assert np.allclose(said["cosines"], cosines, atol=1e-5)
    wanted = spearmanr(cosines, [row["score"] for row in rows]).statistic
    assert report.artifacts[0].readings[0].value == pytest.approx(wanted, abs=1e-4)


@pytest.mark.parametrize("artifact", ["checkpoint", "onnx"])
def test_what_sentence_transformers_needs_is_kept(artifact, run, folder):
    place, _ = run
    for name in ("modules.json", "1_Pooling/config.json", "sentence_bert_config.json"):
        kept = json.loads((place / artifact / name).read_text())
        assert kept == json.loads((folder / "model" / name).read_text())


def test_labels_do_not_teach_where_there_are_none(folder, write):
    text = TEXT.format(folder=folder).replace("alpha: 0.0", "control: true")
    with pytest.raises(compressit.errors.StepError, match="no row of the training split has a label"):
        compressit.apply(write(text))


def test_metrics_of_labels_do_not_fit(folder, write):
    text = TEXT.format(folder=folder).replace("[spearman,", "[accuracy, spearman,")
    with pytest.raises(RecipeError, match="accuracy does not fit sentence-similarity"):
        compressit.apply(write(text))
