"""Another network in the model's place: what comes along, and that it can be taught and served."""

import json

import numpy as np
import pytest
import torch
from transformers import BertConfig, BertForMaskedLM

import compressit
from compressit import model as models
from compressit import steps
from compressit.errors import RecipeError
from compressit.steps import student_textcnn
from tests.conftest import save_classifier, sentences, tokenizer

RECIPE = """\
name: student
task: text-classification
model: {model}
dataset:
  path: {data}
  train: train.jsonl
  evaluation: test.jsonl
  columns: {{text: sentence}}
steps:
  - step: {step}
  - step: distill
    epochs: 6
    learning_rate: 3e-3
exports:
  - export: onnx
metrics: [accuracy, size]
"""


@pytest.fixture(scope="module")
def taught(sentiment, tmp_path_factory):
    folder = tmp_path_factory.mktemp("taught")
    step = "student_textcnn\n    embedding: 16\n    filters: 12"
    (folder / "r.yaml").write_text(RECIPE.format(model=sentiment / "model", data=sentiment, step=step))
    return folder / "out", compressit.apply(folder / "r.yaml", folder / "out")


def test_a_convolutional_student_learns_what_the_teacher_knows(taught):
    _, report = taught
    before = report.original.readings[0].value
    for artifact in report.artifacts:
        assert artifact.readings[0].value > before - 0.05
    assert report.artifacts[0].multiplications is None, "it has no blocks to compare with"
    assert report.steps[0].after.readings[0].value < before - 0.1, "nothing but its words has learned anything before"
    assert "accuracy" in report.steps[1].gained


def test_it_opens_again_and_padding_changes_nothing(taught):
    folder, _ = taught
    model = compressit.load(folder)
    texts = ["good", "the film was a dull and poor scene with a bad plot"]
    together = model.module(**model.processor(texts, padding=True, return_tensors="pt")).logits
    for text, logits in zip(texts, together, strict=True):
        alone = model.module(**model.processor(text, return_tensors="pt")).logits[0]
        assert torch.allclose(alone, logits, atol=1e-5)
    with np.load(folder / "examples" / "onnx.npz") as served, np.load(folder / "examples" / "checkpoint.npz") as saved:
        assert np.allclose(served["logits"], saved["logits"], atol=1e-4)


def test_a_convolutional_student_is_what_the_paper_says(sentiment, context):
    model = models.load(sentiment / "model", "text-classification")
    config = student_textcnn.Config(step="student_textcnn", embedding=8, filters=5, kernels=(1, 3))
    student_textcnn.run(model, config, context(model))
    net = model.module
    words = net.embedding.weight[[5, 9, 12, 7]].detach().numpy()
    features = []
    for part in net.convolutions:
        weight, bias = part.weight.detach().numpy(), part.bias.detach().numpy()
        reach = weight.shape[-1]
        padded = np.pad(words, ((reach - 1, reach - 1), (0, 0)))
        windows = [padded[at : at + reach].T for at in range(len(padded) - reach + 1)]
        answers = [[(weight[f] * window).sum() + bias[f] for window in windows] for f in range(5)]
        features += [max(0, *row) for row in answers]
    expected = net.classifier.weight.detach().numpy() @ np.array(features) + net.classifier.bias.detach().numpy()
    assert np.allclose(net(torch.tensor([[5, 9, 12, 7]])).logits[0].detach().numpy(), expected, atol=1e-5)


def test_its_words_are_the_models_principal_components():
    words = torch.randn(40, 6, generator=torch.Generator().manual_seed(0)) @ torch.diag(
        torch.tensor([5.0, 3, 2, 1, 1, 1])
    )
    found, kept = student_textcnn.principal(words, 3)
    _, values, _ = np.linalg.svd(words.numpy() - words.numpy().mean(0))
    assert kept == pytest.approx((values[:3] ** 2).sum() / (values**2).sum(), rel=1e-4)
    ratio = np.linalg.svd(found.numpy())[1] / values[:3]
    assert np.allclose(ratio, ratio[0], rtol=1e-3), "the directions keep their proportions"
    wider, kept = student_textcnn.principal(words, 9)
    assert wider.shape == (40, 9)
    assert kept == pytest.approx(1)
    assert not wider[:, 6:].any()


def test_a_model_without_a_head_gets_one_for_these_labels(sentiment, context, tmp_path):
    save_masked(tmp_path / "base")
    model = models.load(sentiment / "model", "text-classification")
    given = context(model)
    config = steps.load("student").Config(step="student", model="base")
    notes = steps.load("student").run(model, config, given_with(given, tmp_path / "base"))
    assert notes["untrained"] == "bert.pooler.dense, classifier"
    assert model.module.config.id2label == {0: "NEGATIVE", 1: "POSITIVE"}
    own = BertForMaskedLM.from_pretrained(tmp_path / "base").state_dict()
    assert torch.equal(model.module.state_dict()["bert.encoder.layer.0.output.dense.weight"],
                       own["bert.encoder.layer.0.output.dense.weight"])  # fmt: skip


def test_a_head_for_the_same_labels_stays(sentiment, context, tmp_path):
    save_classifier(tmp_path / "small", sentences(200, 3), layers=1)
    model = models.load(sentiment / "model", "text-classification")
    config = steps.load("student").Config(step="student", model="small")
    notes = steps.load("student").run(model, config, given_with(context(model), tmp_path / "small"))
    assert notes["untrained"] == "nothing"
    assert len(model.blocks()) == 1


def test_other_labels_get_a_head_of_their_own(sentiment, context, tmp_path):
    save_classifier(tmp_path / "small", sentences(50, 3), layers=1)
    config = json.loads((tmp_path / "small" / "config.json").read_text())
    config |= {"id2label": {"0": "POSITIVE", "1": "NEGATIVE"}, "label2id": {"POSITIVE": 0, "NEGATIVE": 1}}
    (tmp_path / "small" / "config.json").write_text(json.dumps(config))
    model = models.load(sentiment / "model", "text-classification")
    step = steps.load("student")
    notes = step.run(model, step.Config(step="student", model="x"), given_with(context(model), tmp_path / "small"))
    assert notes["untrained"] == "classifier"


def test_the_plan_refuses_a_student_that_is_not_there_or_undoes_a_step(sentiment, write):
    text = RECIPE.format(model=sentiment / "model", data=sentiment, step="student\n    model: ./nowhere")
    with pytest.raises(RecipeError, match="there is no model at"):
        compressit.apply(write(text))
    late = "drop_layers\n    keep: 2\n  - step: student_textcnn"
    with pytest.raises(RecipeError, match="student_textcnn would undo the shapes that step 1"):
        compressit.apply(write(RECIPE.format(model=sentiment / "model", data=sentiment, step=late)))


def given_with(context, folder):
    """Look for the student there, whatever it is called."""
    from dataclasses import replace

    return replace(context, student=lambda path, labels: models.beginner(folder, "text-classification", labels))


def save_masked(folder):
    torch.manual_seed(0)
    words = tokenizer()
    config = BertConfig(vocab_size=len(words), hidden_size=16, num_hidden_layers=1, num_attention_heads=2,
                        intermediate_size=32, max_position_embeddings=64)  # fmt: skip
    BertForMaskedLM(config).save_pretrained(folder)
    words.save_pretrained(folder)
