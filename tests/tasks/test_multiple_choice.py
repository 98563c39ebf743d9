"""How a question and its choices become windows, what each is worth, and the whole line."""

import json
import re

import datasets
import numpy as np
import pytest
import torch
import transformers

import compressit
from compressit import model as models
from compressit import steps, tasks
from compressit.errors import DataError
from compressit.outputs import Choices
from compressit.progress import Silent
from compressit.steps import StepContext
from tests.conftest import WHAT, WHO, story, story_tokenizer

TASK = tasks.load("multiple-choice")
RECIPE = """\
name: choices
task: multiple-choice
model: {folder}/model
dataset:
  path: {rows}
  calibration: train.jsonl
  evaluation: test.jsonl
  normalize: tokens
steps:
  - step: quantize_gptq
    bits: 4
    group_size: 32
metrics: [accuracy, agreement, kl_divergence, size]
targets:
  - {{metric: accuracy, max_drop: 0.2}}
"""


def questions(count, seed):
    """Stories without their end, and ends of which one goes with who and what they are about."""
    found = []
    for number, told in enumerate(story(count, seed).split("\n\n")):
        context, end = told.rstrip(".").rsplit(". ", 1)
        who, what = re.search(r"The (\w+) wanted a ([\w ]+)\.", told).groups()
        other, thing = (next(each for each in all if each != own) for all, own in ((WHO, who), (WHAT, what)))
        wrong = [end.replace(who, other) + ".", end.replace(what, thing) + ".", end.replace(who, other) + " today."]
        choices = wrong[: 2 + number % 2]
        choices.insert(number % 3, end + ".")
        found.append({"context": context + ".", "choices": choices, "answer": choices.index(end + ".")})
    return found


@pytest.fixture(scope="module")
def rows():
    return datasets.Dataset.from_list(questions(12, 7))


@pytest.fixture(scope="module")
def run(storyteller, tmp_path_factory):
    folder = tmp_path_factory.mktemp("choices")
    for name, seed in (("train", 5), ("test", 6)):
        (folder / f"{name}.jsonl").write_text("\n".join(map(json.dumps, questions(40, seed))))
    (folder / "r.yaml").write_text(RECIPE.format(folder=storyteller, rows=folder))
    return folder, compressit.apply(folder / "r.yaml", folder / "out")


def likelihoods(model, tokens, question, prefix="", suffix=""):
    """Of each choice the sum over its tokens, one text at a time, and how many these are."""
    found = []
    for choice in question["choices"]:
        stem = f"{prefix}{question['context']}{suffix}"
        ids, given = (tokens(text, return_tensors="pt")["input_ids"][0] for text in (f"{stem} {choice}", stem))
        with torch.no_grad():
            said = model(ids[None]).logits[0].double().log_softmax(-1)
        own = range(len(given), len(ids))
        found.append((float(sum(said[at - 1, ids[at]] for at in own)), len(own)))
    return found


@pytest.mark.parametrize("normalize", [None, "characters", "tokens"])
def test_scores_are_sums_over_the_tokens_of_each_choice(normalize, rows, storyteller):
    model = transformers.AutoModelForCausalLM.from_pretrained(storyteller / "model").eval()
    tokens = transformers.AutoTokenizer.from_pretrained(storyteller / "model")
    around = {"prefix": "At first: ", "suffix": " Then:"}
    prepared = TASK.prepare(rows, tokens, None, normalize=normalize, **around)
    batch = TASK.collate(tokens)(list(prepared))
    labels = batch.pop("labels")
    with torch.no_grad():
        logits = model(**batch).logits
    said = Choices.reduce(logits.numpy(), labels.numpy(), None)
    found = Choices.gather(said, prepared, rows, [])
    assert found["labels"].tolist() == rows["answer"][:]
    for scores, question in zip(found["logits"], rows, strict=True):
        alone, lengths = zip(*likelihoods(model, tokens, question, **around), strict=True)
        by = {None: [1] * 4, "characters": list(map(len, question["choices"])), "tokens": lengths}[normalize]
        wanted = [score / each for score, each in zip(alone, by, strict=False)]
        np.testing.assert_allclose(scores[: len(wanted)], wanted, rtol=1e-4)
        assert (scores[len(wanted) :] < -1e8).all()


def test_training_and_calibration_read_the_right_choice_alone(rows):
    tokens = story_tokenizer(story(40, 3))
    for read in (TASK.learned, TASK.singly):
        prepared = TASK.prepare(read(rows), tokens, None)
        assert len(prepared) == len(rows)
        for window, question in zip(prepared, rows, strict=True):
            own = [token for token, label in zip(window["input_ids"], window["labels"], strict=True) if label != -100]
            assert tokens.decode(own).strip() == question["choices"][question["answer"]]


def test_a_context_that_is_too_long_loses_its_beginning(rows):
    tokens = story_tokenizer(story(40, 3))
    whole, cut = TASK.prepare(rows, tokens, None), TASK.prepare(rows, tokens, 24)
    for long, short in zip(whole["input_ids"], cut["input_ids"], strict=True):
        assert short == long[-24:]
    with pytest.raises(DataError, match="beyond the 128 tokens"):
        TASK.prepare(rows, tokens, 1000)


@pytest.mark.parametrize("step", ["finetune", "distill"])
def test_right_choices_are_learned(step, storyteller, tmp_path):
    model = models.load(storyteller / "model", "multiple-choice")
    rows = datasets.Dataset.from_list(questions(40, 5))
    held = questions(20, 6)
    given = StepContext(
        calibration=rows, train=rows, teacher=lambda name: models.load(storyteller / "model", "multiple-choice"),
        device="cpu", seed=0, progress=Silent(), scratch=tmp_path, max_length=None, fields={},
    )  # fmt: skip

    def right():
        found = [likelihoods(model.module, model.processor, question) for question in held]
        return np.mean([said[question["answer"]][0] for said, question in zip(found, held, strict=True)])

    turned, cache = steps.load("rotate"), steps.load("quantize_cache")
    before, module = right(), steps.load(step)
    turned.run(model, turned.Config(step="rotate"), given)
    assert right() == pytest.approx(before, rel=1e-4), "a language model is one for steps, whatever it is judged by"
    assert cache.run(model, cache.Config(step="quantize_cache"), given)["layers"] == 4
    fields = {"alpha": 0.8} if step == "distill" else {}
    config = module.Config(step=step, epochs=4, batch_size=8, learning_rate=1e-3, **fields)
    assert module.run(model, config, given)["updates"] == 20
    assert right() > before + 0.1, "in nats a choice"


def test_the_report_judges_choices(run):
    folder, report = run
    (artifact,) = report.artifacts
    value = {reading.metric: reading.value for reading in artifact.readings}
    with np.load(folder / "out" / "examples" / "checkpoint.npz") as said:
        right = said["logits"].argmax(-1) == said["labels"]
        assert said["logits"].shape == (40, 4)
    assert value["accuracy"] == right.mean() > 0.6, "a choice by chance is right in 0.29 of these"
    assert value["agreement"] > 0.8
    assert 0 < value["kl_divergence"] < 0.5
    assert report.provenance.data["scored by"] == "log likelihood for each of its tokens"


def test_the_artifact_answers_as_plain_transformers_do(run):
    folder, _ = run
    model = transformers.AutoModelForCausalLM.from_pretrained(folder / "out" / "checkpoint").eval()
    tokens = transformers.AutoTokenizer.from_pretrained(folder / "out" / "checkpoint")
    said = []
    for question in map(json.loads, (folder / "test.jsonl").read_text().splitlines()):
        scores = [score / length for score, length in likelihoods(model, tokens, question)]
        said.append(int(np.argmax(scores)))
    with np.load(folder / "out" / "examples" / "checkpoint.npz") as kept:
        assert kept["logits"].argmax(-1).tolist() == said
