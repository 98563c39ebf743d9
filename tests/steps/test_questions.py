"""What steps learn and measure of a model that answers questions: by where answers start and end."""

from dataclasses import replace

import pytest
import torch

from compressit import anatomy, data, tasks
from compressit import model as models
from compressit.errors import StepError
from compressit.outputs import Answers
from compressit.steps import _answers, _classes, distill, drop_layers, finetune
from compressit.steps._calibration import batches
from compressit.steps._importance import Units, importance
from tests.questions import questions, save_answerer

TASK = "question-answering"


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    folder = tmp_path_factory.mktemp("answerer")
    save_answerer(folder, questions(500, 1, 0.2))
    return lambda: models.load(folder, TASK)


def right(model, given):
    """The share of questions whose answer the model finds."""
    task = tasks.load(TASK)
    prepared = task.prepare(given.train, model.processor, None)
    batch = task.collate(model.processor)(list(prepared))
    labels = batch.pop("labels").numpy()
    with torch.no_grad():
        said = _answers.said(model, batch).numpy()
    return Answers.gather(Answers.reduce(said, labels, None), prepared, given.train, [])["exact"].mean()


def settings(step, **fields):
    return step.Config(step=step.__name__.rsplit(".", 1)[-1], **{"batch_size": 16, "learning_rate": 3e-3, **fields})


def test_answers_are_learned_and_taught(trained, context):
    """With an untrained head, a student learns from labels, or from a teacher where no question has an answer."""
    teacher, student, pupil = trained(), trained(), trained()
    given = context(teacher, count=256)
    for model in (student, pupil):
        torch.nn.init.normal_(model.module.qa_outputs.weight, std=0.02)
    assert right(student, given) < 0.5 < 0.8 < right(teacher, given)
    finetune.run(student, settings(finetune, epochs=3), given)
    bare = given.train.remove_columns("answers").add_column("answers", [None] * len(given.train))
    alone = replace(given, train=bare, teacher=lambda path: teacher, scratch=given.scratch / "alone")
    with pytest.raises(StepError, match="no row of the training split has a label"):
        finetune.run(pupil, settings(finetune, epochs=1), alone)
    distill.run(pupil, settings(distill, epochs=3, alpha=0.0), alone)
    assert min(right(student, given), right(pupil, given)) > 0.8


def test_a_teacher_of_other_tokens_can_not_show_where_answers_are(trained, context):
    teacher, student = trained(), trained()
    teacher.processor.add_tokens(["another"])
    with pytest.raises(StepError, match="another vocabulary"):
        distill.run(student, settings(distill, epochs=1), context(student, teacher=lambda path: teacher))


def test_importance_is_of_whole_examples(trained, context):
    """Derivatives of both losses together, by a mask over a neuron at all positions, example by example."""
    model, found = trained(), {}
    given = context(model, count=8)
    place = "bert.encoder.layer.1.output.dense"
    units = Units("bert.encoder.layer.1", "ffn", place, 64, 1)
    draw, wanted = torch.Generator().manual_seed(0), {"fisher": torch.zeros(64), "taylor": torch.zeros(64)}
    module = model.module.get_submodule(place)
    for inputs, labels in batches(model, 8, given, ""):
        mask = torch.ones(len(labels), 1, 64, requires_grad=True)
        hook = module.register_forward_pre_hook(lambda part, args, mask=mask: (args[0] * mask, *args[1:]))
        said = _answers.said(model, inputs)
        rows, places = _classes.scored(TASK, said, labels)
        drawn = torch.multinomial(rows.detach().softmax(-1), 1, generator=draw)[:, 0]
        for how, targets in (("fisher", drawn), ("taylor", places)):
            loss = torch.nn.functional.cross_entropy(rows, targets, reduction="sum")
            (slope,) = torch.autograd.grad(loss, mask, retain_graph=True)
            wanted[how] += (slope[:, 0].square() if how == "fisher" else slope[:, 0]).sum(0)
        hook.remove()
    for how in wanted:
        (found[how],) = importance(model, [units], how, 8, given)
        assert torch.allclose(found[how], wanted[how].abs() / 8, rtol=1e-3, atol=1e-7), how


def test_blocks_go_by_how_far_starts_and_ends_move(trained, context):
    model = trained()
    given = context(model, count=12)
    config = drop_layers.Config(step="drop_layers", keep=2, choose="divergence", batch_size=5)
    found = drop_layers.measure_divergence(model, config, given, range(4))
    wanted = dict.fromkeys(range(4), 0.0)
    for _, batch in data.batches(given.train, model, 1):
        there = batch.pop("labels")[0, :, 0] != -100
        with torch.no_grad():
            whole = _answers.said(model, batch)[0, there].log_softmax(0)
            for index in wanted:
                shorter = trained()
                anatomy.keep_blocks(shorter.module, [other for other in range(4) if other != index])
                less = _answers.said(shorter, batch)[0, there].log_softmax(0)
                wanted[index] += float((whole.exp() * (whole - less)).sum(0).mean()) / 12
    assert found == pytest.approx(wanted, rel=1e-3)
