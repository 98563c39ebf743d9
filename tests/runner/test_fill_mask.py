"""A masked language model through the whole line."""

import json
import math

import datasets
import numpy as np
import pytest
import torch
import transformers

import compressit
from compressit import data, recipe, tasks
from compressit.errors import RecipeError
from compressit.report import flips
from tests import tagged, tiny

TEXT = """\
name: masks
task: fill-mask
model: {folder}/model
dataset:
  path: {folder}
  train: train.jsonl
  calibration: train.jsonl[:32]
  evaluation: test.jsonl
  max_length: 24
steps:
  - {{step: finetune, epochs: 3, batch_size: 8, learning_rate: 3e-3}}
  - {{step: drop_layers, keep: 3, choose: divergence}}
  - {{step: distill, epochs: 1, learning_rate: 1e-3}}
exports:
  - {{export: onnx, weights: int8}}
targets:
  - {{metric: perplexity, max_ratio: 1, artifact: checkpoint}}
"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    place = tmp_path_factory.mktemp("masks")
    for name, count, seed in (("train", 160, 1), ("test", 40, 2)):
        rows = [{"text": " ".join(row["tokens"])} for row in tagged.sentences(count, seed)]
        (place / f"{name}.jsonl").write_text("\n".join(map(json.dumps, rows)))
    tiny.save("bert-mask", place / "model")
    return place


@pytest.fixture(scope="module")
def run(folder, tmp_path_factory):
    place = tmp_path_factory.mktemp("run")
    (place / "r.yaml").write_text(TEXT.format(folder=folder))
    return place / "out", compressit.apply(place / "r.yaml", place / "out")


def test_the_report_judges_masked_tokens(run):
    place, report = run
    assert report.exit_code == 0, [verdict.why for verdict in report.verdicts]
    for artifact in report.artifacts:
        found = {reading.metric: reading for reading in artifact.readings}
        assert [*found] == ["accuracy", "perplexity", "agreement", "latency", "throughput", "size"]
        assert found["perplexity"].value < found["perplexity"].baseline / 2
        assert found["accuracy"].low < found["accuracy"].value < found["accuracy"].high
        assert found["accuracy"].value > found["accuracy"].baseline
    assert report.artifacts[1].notes["agreement"] > 0.8
    data = json.loads((place / "report.json").read_text())["provenance"]["data"]
    assert data["masked"] == "15% of a window's tokens, drawn from these tokens"
    with np.load(place / "examples" / "onnx.npz") as said:
        assert said["tokens"].sum() == data["masked tokens"]


def test_the_figures_are_those_of_plain_transformers(run, folder):
    place, report = run
    tokens = transformers.AutoTokenizer.from_pretrained(place / "checkpoint")
    model = transformers.AutoModelForMaskedLM.from_pretrained(place / "checkpoint")
    rows = datasets.Dataset.from_list([{"text": " ".join(row["tokens"])} for row in tagged.sentences(40, 2)])
    nats = count = right = 0
    for window in tasks.load("fill-mask").prepare(rows, tokens, 24):
        with torch.no_grad():
            odds = model(input_ids=torch.tensor([window["input_ids"]])).logits[0].double().log_softmax(-1)
        for place_, label in enumerate(window["labels"]):
            if label != -100:
                nats, count = nats - float(odds[place_, label]), count + 1
                right += int(odds[place_].argmax()) == label
    found = {reading.metric: reading.value for reading in report.artifacts[0].readings}
    assert found["perplexity"] == pytest.approx(math.exp(nats / count), rel=1e-4)
    assert found["accuracy"] == pytest.approx(right / count)


def test_a_vocabulary_is_not_trimmed(folder, write):
    text = TEXT.format(folder=folder).replace("{step: drop_layers", "{step: trim_vocabulary}\n  - {step: drop_layers")
    with pytest.raises(RecipeError, match="trim_vocabulary does not work on models for fill-mask"):
        compressit.apply(write(text))


def test_every_window_is_found_again_as_text(run, folder):
    written = recipe.load(run[0] / "recipe.yaml").recipe.dataset
    rows = data.rows(written, written.evaluation, "fill-mask", {}, folder)
    row_of = flips.lookup(rows, written, "fill-mask", run[0] / "checkpoint")
    with np.load(run[0] / "examples" / "checkpoint.npz") as said:
        texts = [row_of(int(example))["text"] for example in said["examples"]]
    assert len(texts) == 40
    assert all(text.startswith("[CLS]") and "[MASK]" in text for text in texts)
    assert row_of(1) is None
