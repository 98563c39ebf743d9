"""Another network in the model's place: what comes along, and that it can be taught and served."""

import json
import shutil
from dataclasses import replace

import numpy as np
import pytest
import torch
from transformers import (
    AutoModel,
    AutoTokenizer,
    BertConfig,
    BertForMaskedLM,
    BertModel,
    LlamaConfig,
    LlamaForCausalLM,
)

import compressit
from compressit import model as models
from compressit import steps, tasks
from compressit.errors import RecipeError, StepError
from compressit.steps import student_textcnn
from tests import paired, tagged
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


ALIKE = """\
name: alike
task: sentence-similarity
model: ./original
dataset: {path: ., train: train.jsonl, evaluation: test.jsonl}
steps:
  - {step: student, model: ./student}
  - {step: distill, epochs: 8, learning_rate: 3e-3, alpha: 0.0}
metrics: [spearman, size]
"""


@pytest.fixture
def alike(sentiment, tmp_path):
    """An original whose vectors know good from bad, texts without scores to learn from, and pairs with them."""
    shutil.copytree(sentiment / "model", tmp_path / "original")
    paired.modules(tmp_path / "original", width=32, length=12)
    rows = sentences(400, 5)
    pairs = [
        {"text": one["sentence"], "text_pair": other["sentence"], "score": float(one["label"] == other["label"])}
        for one, other in zip(rows[:200], rows[200:], strict=True)
    ]
    (tmp_path / "train.jsonl").write_text("\n".join(json.dumps({"text": row["sentence"]}) for row in sentences(400, 6)))
    (tmp_path / "test.jsonl").write_text("\n".join(map(json.dumps, pairs)))
    (tmp_path / "r.yaml").write_text(ALIKE)
    return tmp_path


@pytest.mark.parametrize("width", [32, 16], ids=["as-wide", "narrower"])
def test_a_student_of_vectors_learns_from_texts_alone_and_opens_in_plain_transformers(width, alike):
    save_bert(BertModel, alike / "student", width, max_position_embeddings=10)
    report = compressit.apply(alike / "r.yaml", alike / "out")
    measured = (report.original, report.steps[0].after, report.artifacts[0])
    before, untrained, trained = (each.readings[0].value for each in measured)
    assert before > 0.5
    assert untrained < trained - 0.3
    assert trained > before - 0.1
    checkpoint = alike / "out" / "checkpoint"
    opened, words = AutoModel.from_pretrained(checkpoint), AutoTokenizer.from_pretrained(checkpoint)
    assert opened.config.hidden_size == width
    pairs = [json.loads(line) for line in (alike / "test.jsonl").read_text().splitlines()]

    def vector(text):
        with torch.no_grad():
            return (
                opened(**words(text, truncation=True, max_length=10, return_tensors="pt")).last_hidden_state[0].mean(0)
            )

    found = [float(torch.cosine_similarity(vector(r["text"]), vector(r["text_pair"]), dim=0)) for r in pairs]
    with np.load(alike / "out" / "examples" / "checkpoint.npz") as said:
        assert np.allclose(said["cosines"], found, atol=1e-5)
    pooling = json.loads((checkpoint / "1_Pooling" / "config.json").read_text())
    assert (pooling["word_embedding_dimension"], pooling["pooling_mode_mean_tokens"]) == (width, True)
    lengths = json.loads((checkpoint / "sentence_bert_config.json").read_text())
    assert lengths["max_seq_length"] == 10, "the original's 12 are more than the student takes"


def test_a_student_that_says_how_its_vectors_are_made_keeps_its_way(alike, context):
    save_bert(BertModel, alike / "student", 16)
    paired.modules(alike / "student", pooling="cls", width=16, length=7, normalize=False)
    model = models.load(alike / "original", "sentence-similarity")
    assert model.answer.modes == ("mean",)
    run(model, context(model), alike / "student")
    assert model.answer.modes == ("cls",)
    model.save(alike / "saved")
    again = models.load(alike / "saved", "sentence-similarity")
    assert again.answer.modes == ("cls",)
    assert (again.processor.model_max_length, len(again.answer.layers)) == (7, 0)


def test_a_dense_layer_wants_a_student_as_wide(alike, context):
    save_bert(BertModel, alike / "student", 16)
    paired.modules(alike / "original", width=32, dense=(torch.eye(32), torch.zeros(32), "Identity"))
    model = models.load(alike / "original", "sentence-similarity")
    run(model, context(model), alike / "student")
    inputs = model.processor(["good film"], return_tensors="pt")
    with pytest.raises(StepError, match="takes 32 channels, and is given 16") as caught:
        model.answer(model.module(**inputs), inputs)
    assert "a student must be as wide" in caught.value.hint


@pytest.mark.parametrize(("task", "kind", "config"), [("fill-mask", BertForMaskedLM, BertConfig),
                                                      ("text-generation", LlamaForCausalLM, LlamaConfig)])  # fmt: skip
def test_a_student_of_tokens_has_the_originals(task, kind, config, tmp_path, context):
    for folder, width in (("original", 32), ("student", 16), ("other", 16)):
        save_bert(kind, tmp_path / folder, width, config, more=folder == "other")
    model = models.load(tmp_path / "original", task)
    given = context(model)
    with pytest.raises(StepError, match="has another vocabulary than the model"):
        run(model, given, tmp_path / "other")
    assert run(model, given, tmp_path / "student")["untrained"] == "nothing"
    distill = steps.load("distill")
    learn = distill.Config(step="distill", epochs=6, learning_rate=3e-3, alpha=0.0, batch_size=8)
    before = apart(model, given)
    distill.run(model, learn, given)
    assert apart(model, given) < 0.8 * before


def apart(model, given):
    """How far what a model says of its training texts is from what the original says, in nats a token."""
    original = given.teacher(None)
    task = tasks.load(model.task)
    rows = task.prepare(given.train, model.processor, None)
    batch = task.collate(model.processor)([rows[place] for place in range(8)])
    inputs = {name: value for name, value in batch.items() if name != "labels"}
    with torch.no_grad():
        said, wanted = (each.module(**inputs).logits.log_softmax(-1) for each in (model, original))
    return float(torch.nn.functional.kl_div(said, wanted, log_target=True, reduction="batchmean"))


def run(model, given, folder):
    step = steps.load("student")
    opened = replace(given, student=lambda path, labels: models.beginner(folder, model.task, labels))
    return step.run(model, step.Config(step="student", model="it"), opened)


def save_bert(kind, folder, width, config=BertConfig, *, more=False, **fields):
    """A small model of random weights with the tests' words; `more` has one more of them."""
    torch.manual_seed(1)
    words = tagged.tokenizer() if kind is BertForMaskedLM else tokenizer()
    if more:
        words.add_tokens("more")
    made = config(vocab_size=len(words), hidden_size=width, num_hidden_layers=1, num_attention_heads=2,
                  intermediate_size=2 * width, **({"max_position_embeddings": 64} | fields))  # fmt: skip
    kind(made).save_pretrained(folder)
    words.save_pretrained(folder)


def given_with(context, folder):
    """Look for the student there, whatever it is called."""
    return replace(context, student=lambda path, labels: models.beginner(folder, "text-classification", labels))


def save_masked(folder):
    torch.manual_seed(0)
    words = tokenizer()
    config = BertConfig(vocab_size=len(words), hidden_size=16, num_hidden_layers=1, num_attention_heads=2,
                        intermediate_size=32, max_position_embeddings=64)  # fmt: skip
    BertForMaskedLM(config).save_pretrained(folder)
    words.save_pretrained(folder)
