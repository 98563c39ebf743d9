"""finetune and distill: the loss, the teacher, the zeros, and going on after a kill."""

import copy
import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from scipy.special import log_softmax, softmax

from compressit import model as models
from compressit.algorithms import imitation
from compressit.errors import StepError
from compressit.model import Model
from compressit.steps import _answers, _training, distill, finetune, prune_magnitude


def settings(step, **fields):
    return step.Config(step=step.__name__.rsplit(".", 1)[-1], **{"epochs": 1, "batch_size": 16, **fields})


def weights(model):
    return {name: parameter.detach().clone() for name, parameter in model.module.named_parameters()}


def test_divergence_is_the_formula_of_the_paper():
    draw = np.random.default_rng(0)
    student, teacher = draw.normal(size=(5, 3)), draw.normal(size=(5, 3))
    for temperature in (1.0, 2.0, 7.5):
        p = softmax(teacher / temperature, -1)
        by_hand = (p * (log_softmax(teacher / temperature, -1) - log_softmax(student / temperature, -1))).sum(-1).mean()
        found = imitation.divergence(torch.tensor(student), torch.tensor(teacher), temperature)
        assert math.isclose(found.item(), temperature**2 * by_hand, rel_tol=1e-5)


def test_training_on_labels_learns(opened, context, logits):
    model = opened("distilbert")
    given = context(model, count=512)
    run = settings(finetune, epochs=6, learning_rate=2e-3)
    finetune.run(model, run, given)
    right = logits_in_order(model, given).argmax(-1) == torch.tensor(given.train["label"])
    assert right.float().mean() > 0.9


def test_a_student_learns_its_teacher_without_labels(opened, context, sentiment):
    student = opened("distilbert")
    given = context(student, count=512, teacher=lambda path: models.load(sentiment / "model", "text-classification"))
    # The two name their labels differently; here the teacher's are as good as the student's.
    student.module.config.id2label = {0: "negative", 1: "positive"}
    wrong = replace(given, train=given.train.remove_columns("label").add_column("label", [0] * len(given.train)))
    distill.run(student, settings(distill, epochs=6, learning_rate=2e-3, alpha=0.0), wrong)
    teacher = logits_in_order(models.load(sentiment / "model", "text-classification"), given).argmax(-1)
    assert (logits_in_order(student, given).argmax(-1) == teacher).float().mean() > 0.9


def logits_in_order(model, given):
    from compressit import data

    said = torch.empty(len(given.train), len(model.module.config.id2label))
    with torch.inference_mode():
        for places, batch in data.batches(given.train, model, 64):
            said[places] = model.module(**{k: v for k, v in batch.items() if k != "labels"}).logits
    return said


def test_alpha_one_is_finetuning_byte_for_byte(opened, context, tmp_path):
    one, two = opened("bert"), opened("bert")
    finetune.run(one, settings(finetune), replace(context(one), scratch=tmp_path / "a"))
    distill.run(two, settings(distill, alpha=1.0), replace(context(two), scratch=tmp_path / "b"))
    assert all(torch.equal(a, b) for a, b in zip(weights(one).values(), weights(two).values(), strict=True))


def test_a_teacher_may_order_its_labels_otherwise(opened, context):
    student, teacher = opened("bert"), opened("bert")
    swapped = opened("bert")
    head = swapped.module.classifier
    head.weight.data, head.bias.data = head.weight.data.flip(0), head.bias.data.flip(0)
    swapped.module.config.id2label = {0: "POSITIVE", 1: "NEGATIVE"}
    given = context(student)
    says = [torch.cat(_answers.teach(each, student, given)) for each in (swapped, teacher)]
    assert torch.equal(*says)


def test_a_teacher_of_other_labels_is_refused(opened, context):
    student, teacher = opened("bert"), opened("bert")
    teacher.module.config.id2label = {0: "cat", 1: "dog"}
    with pytest.raises(StepError, match="other labels"):
        _answers.teach(teacher, student, context(student))


@pytest.mark.parametrize("step", [finetune, distill])
@pytest.mark.parametrize("amount", [{"sparsity": 0.6}, {"pattern": "2:4"}])
def test_zeros_stay_zero_and_the_rest_moves(step, amount, opened, context):
    model = opened("bert")
    given = context(model)
    prune_magnitude.run(model, prune_magnitude.Config(step="prune_magnitude", **amount), given)
    before = weights(model)
    step.run(model, settings(step, learning_rate=1e-3), given)
    for name, after in weights(model).items():
        if name.endswith("dense.weight") and "layer" in name:
            zero = before[name] == 0
            assert bool((after[zero] == 0).all()), name
            assert not torch.equal(after[~zero], before[name][~zero])


class Killed(BaseException):
    """What a kill looks like from inside."""


def test_a_killed_training_goes_on_and_ends_as_if_it_had_not_been(opened, context, tmp_path, monkeypatch):
    whole, broken = opened("bert"), opened("bert")
    config = settings(finetune, epochs=3)
    finetune.run(whole, config, replace(context(whole), scratch=tmp_path / "whole"))

    given = replace(context(broken), scratch=tmp_path / "broken")
    steps_done = 0

    def die(done):
        nonlocal steps_done
        steps_done += done
        if steps_done == 6:
            raise Killed

    class Bars:
        def bar(self, label, total):
            import contextlib

            return contextlib.nullcontext(die)

    with pytest.raises(Killed):
        finetune.run(broken, config, replace(given, progress=Bars()))
    again = opened("bert")
    # A kill inside a save leaves a checkpoint without its last file.
    (given.scratch / "checkpoint-8").mkdir()
    (given.scratch / "checkpoint-8" / "config.json").write_text("{}")
    notes = finetune.run(again, config, given)
    assert notes["updates"] == 12
    assert all(torch.equal(a, b) for a, b in zip(weights(whole).values(), weights(again).values(), strict=True))


def test_a_loss_that_is_not_finite_is_an_error_that_says_so(opened, context):
    model = opened("bert")
    model.module.bert.embeddings.word_embeddings.weight.data[:] = float("inf")
    with pytest.raises(StepError, match=r"the loss became (nan|inf)"):
        finetune.run(model, settings(finetune), context(model))


def test_a_model_keeps_its_type_through_training(opened, context):
    model = opened("bert")
    models.cast(model.module, torch.bfloat16)
    finetune.run(model, settings(finetune), context(model))
    assert model.module.dtype == torch.bfloat16


@pytest.mark.parametrize("step", [finetune, distill])
def test_a_model_trained_in_bfloat16_computes_in_its_own_type_again(step, opened, context, logits, tmp_path):
    model = opened("bert")
    given = context(model)
    step.run(model, settings(step, precision="bfloat16"), given)
    model.save(tmp_path / "saved")
    assert torch.equal(logits(models.load(tmp_path / "saved", model.task), given), logits(model, given))


def test_images_train_too(opened, context):
    model = opened("vit")
    assert finetune.run(model, settings(finetune), context(model))["updates"] == 4


def test_the_watcher_knows_what_was_zero(opened):
    model: Model = opened("bert")
    assert _training._zeros(model.module) == {}


@pytest.fixture
def stories(storyteller, tmp_path):
    """A language model with half its blocks, what a step is given for it, and its loss on other stories."""
    from compressit import anatomy, data, tasks
    from compressit.progress import Silent
    from compressit.steps import StepContext

    task = tasks.load("text-generation")
    spec = data.DatasetSpec(path=str(storyteller), train="train", evaluation="test")
    train, test = (data.rows(spec, split, "text-generation", {}, storyteller) for split in ("train", "test"))
    student = models.load(storyteller / "model", "text-generation")
    anatomy.keep_blocks(student.module, [0, 3])

    def loss(model):
        found = task.prepare(test, model.processor, 64)
        batch = task.collate(model.processor)(list(found))
        with torch.inference_mode():
            return float(model.module(**batch).loss)

    given = StepContext(
        train=train, calibration=None, teacher=lambda path: models.load(storyteller / "model", "text-generation"),
        device="cpu", seed=0, progress=Silent(), scratch=tmp_path / "scratch", max_length=64,
    )  # fmt: skip
    return student, given, loss


@pytest.mark.parametrize("step", [finetune, distill])
def test_a_language_model_heals(step, stories):
    student, given, loss = stories
    before = loss(student)
    fields = {"alpha": 0.2} if step is distill else {}
    step.run(student, settings(step, epochs=2, learning_rate=2e-3, **fields), given)
    assert loss(student) < 0.5 * before
    assert student.module.config.use_cache, "the checkpoint still generates at full speed"


def test_alpha_one_is_finetuning_for_a_language_model_too(stories, tmp_path):
    student, given, _ = stories
    other = models.Model(copy.deepcopy(student.module), student.processor, student.task, student.source)
    finetune.run(student, settings(finetune), replace(given, scratch=tmp_path / "a"))
    distill.run(other, settings(distill, alpha=1.0), replace(given, scratch=tmp_path / "b"))
    assert all(torch.equal(a, b) for a, b in zip(weights(student).values(), weights(other).values(), strict=True))


def test_a_teacher_of_another_vocabulary_is_refused(stories):
    student, given, _ = stories
    teacher = given.teacher(None)
    teacher.processor.add_tokens(["once upon a time"])
    with pytest.raises(StepError, match="another vocabulary"):
        distill.run(student, settings(distill), replace(given, teacher=lambda path: teacher))
