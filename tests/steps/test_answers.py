"""What teachers say of each of a student's rows, and what labels are worth, for tasks of many answers."""

import math
from dataclasses import replace

import pytest
import torch
from scipy.stats import spearmanr

from compressit import data, tasks
from compressit.algorithms import similarity
from compressit.errors import StepError
from compressit.model import Model
from compressit.steps import _answers, _classes, distill, finetune
from compressit.steps._calibration import batches
from compressit.steps._importance import Units, importance
from tests import tagged, tiny

TAGS = "token-classification"


def settings(step, **fields):
    return step.Config(step=step.__name__.rsplit(".", 1)[-1], **{"epochs": 1, "batch_size": 16, **fields})


def tagged_right(model, given):
    """The share of words whose tag the model finds."""
    right = words = 0
    with torch.no_grad():
        for _, batch in data.batches(given.train, model, 64):
            labels = batch.pop("labels")
            said, targets = _classes.scored(TAGS, _answers.said(model, batch), labels)
            right, words = right + int((said.argmax(-1) == targets).sum()), words + len(targets)
    return right / words


def test_tags_are_learned(opened, context):
    model = opened("bert-tags")
    given = context(model, count=256)
    finetune.run(model, settings(finetune, epochs=6, learning_rate=3e-3), given)
    assert tagged_right(model, given) > 0.9


def test_a_teacher_tags_words_without_tags(opened, context):
    teacher = opened("bert-tags")
    given = context(teacher, count=256)
    finetune.run(teacher, settings(finetune, epochs=6, learning_rate=3e-3), given)
    bare = given.train.remove_columns("tags").add_column("tags", [[-1] * len(row["tokens"]) for row in given.train])
    student = opened("bert-tags")
    alone = replace(given, train=bare, teacher=lambda path: teacher, scratch=given.scratch / "alone")
    with pytest.raises(StepError, match="no row of the training split has a label"):
        finetune.run(student, settings(finetune), alone)
    distill.run(student, settings(distill, epochs=6, learning_rate=3e-3, alpha=0.0), alone)
    assert tagged_right(student, given) > 0.9


def test_answers_go_to_the_window_that_holds_the_word(opened, context):
    """A teacher that spells otherwise has other windows; what it says of a word stays with the word."""
    student, teacher = opened("bert-tags"), opened("bert-tags")
    given = replace(context(student), max_length=12)
    spelled = tagged.tokenizer()
    backend = spelled.backend_tokenizer
    # Without its longer pieces it spells most words letter by letter.
    kept = {piece: n for piece, n in spelled.get_vocab().items() if len(piece.removeprefix("##")) == 1 or "[" in piece}
    from tokenizers.models import WordPiece

    backend.model = WordPiece(kept, unk_token="[UNK]")
    teacher.processor = spelled
    task = tasks.load(TAGS)
    own, other = (task.prepare(given.train, each.processor, 12) for each in (student, teacher))
    assert len(own) < len(other)
    found = _answers.teach(teacher, student, given)
    assert [len(each) for each in found] == [len(words) for words in own["words"]]
    collate = task.collate(spelled)
    for row, words in zip(other["row"][:40], other["words"][:40], strict=True):
        window = next(w for w in other if w["row"] == row and w["words"] == words)
        batch = collate([window])
        labels = batch.pop("labels")
        with torch.no_grad():
            said, _ = task.scored(teacher.module(**batch).logits, labels)
        for word, answer in zip(words, said, strict=True):
            ((place, at),) = [
                (n, w["words"].index(word)) for n, w in enumerate(own) if w["row"] == row and word in w["words"]
            ]
            assert torch.allclose(found[place][at], answer, atol=1e-5)


def test_moved_answers_are_those_of_words(opened, context):
    one, two = opened("bert-tags"), opened("bert-tags")
    with torch.no_grad():
        two.module.classifier.weight.mul_(1.5)
    _, batch = next(data.batches(context(one).train, one, 4))
    labels = batch.pop("labels")
    with torch.no_grad():
        before, after = (_answers.said(each, batch) for each in (one, two))
    p, q = before.log_softmax(-1), after.log_softmax(-1)
    moved = (p.exp() * (p - q)).sum(-1)
    wanted = sum(float(moved[row][labels[row] != -100].mean()) for row in range(4))
    assert _classes.apart(TAGS, before, after, labels) == pytest.approx(wanted, rel=1e-4)


def order_of(model, given):
    """How well similarities follow the scores."""
    cosines, scores = [], []
    with torch.no_grad():
        for _, batch in data.batches(given.train, model, 64):
            scores += batch.pop("labels").tolist()
            said = _answers.said(model, batch)
            cosines += torch.cosine_similarity(said[0::2], said[1::2]).tolist()
    return spearmanr(cosines, scores).statistic


def test_scores_teach_an_order(opened, context):
    model = opened("bert-pairs")
    given = context(model, count=256)
    before = order_of(model, given)
    finetune.run(model, settings(finetune, epochs=3, learning_rate=2e-3), given)
    assert order_of(model, given) > before + 0.1


def vectors(model, given):
    with torch.no_grad():
        return torch.cat([_answers.said(model, batch) for batch in _inputs(model, given)])


def _inputs(model, given):
    for _, batch in data.batches(tasks.singly(model.task, given.train), model, 64):
        batch.pop("labels")
        yield batch


def test_a_teacher_shows_single_texts_their_vectors(opened, context):
    student, teacher = opened("bert-pairs"), opened("bert-pairs")
    given = context(student, count=128)
    with torch.no_grad():
        for parameter in teacher.module.parameters():
            parameter.add_(0.05 * torch.randn(parameter.shape, generator=torch.Generator().manual_seed(1)))
    alone = replace(given, train=tasks.singly(student.task, given.train), teacher=lambda path: teacher)
    with pytest.raises(StepError, match="no row of the training split has a label"):
        finetune.run(student, settings(finetune), alone)
    wanted = vectors(teacher, given)
    before = torch.cosine_similarity(vectors(student, given), wanted).mean()
    distill.run(student, settings(distill, epochs=3, learning_rate=1e-3, alpha=0.0), alone)
    assert torch.cosine_similarity(vectors(student, given), wanted).mean() > (1 + before) / 2


def test_a_teacher_of_another_width_shows_how_vectors_lie(opened, context):
    teacher = opened("bert-pairs")
    given = context(teacher, count=128)
    narrow = replace_module(teacher, tiny.build("bert-pairs", hidden_size=16, num_attention_heads=2))
    distilled = replace(given, teacher=lambda path: teacher)

    def told():
        return float(similarity.alike(vectors(narrow, given)[:64], vectors(teacher, given)[:64]))

    before = told()
    distill.run(narrow, settings(distill, epochs=3, learning_rate=2e-3, alpha=0.0), distilled)
    assert told() < before / 2


def replace_module(model, module):
    return Model(module, model.processor, model.task, model.source)


def test_vectors_that_turn_are_apart(opened, context):
    model = opened("bert-pairs")
    _, batch = next(data.batches(context(model).train, model, 4))
    labels = batch.pop("labels")
    with torch.no_grad():
        said = _answers.said(model, batch)
    turned = said.roll(1, -1)
    wanted = float((1 - torch.cosine_similarity(said, turned)).reshape(4, 2).mean(1).sum())
    assert _answers.worth(model.task).apart(model.task, said, turned, labels) == pytest.approx(wanted, rel=1e-4)
    assert _answers.worth(model.task).apart(model.task, said, 3 * said, labels) == pytest.approx(0, abs=1e-5)


def test_importance_of_vectors_is_how_they_turn(opened, context):
    """Derivatives, text by text, by a mask over a neuron: of noise seen along unit vectors, and of the scores' loss."""
    model = opened("bert-pairs")
    given = context(model, count=8)
    place = "encoder.layer.1.output.dense"
    module = model.module.get_submodule(place)
    draw, wanted = torch.Generator().manual_seed(0), {"fisher": torch.zeros(64), "taylor": torch.zeros(64)}
    for inputs, labels in batches(model, 8, given, ""):
        mask = torch.ones(2 * len(labels), 1, 64, requires_grad=True)
        hook = module.register_forward_pre_hook(lambda part, args, mask=mask: (args[0] * mask, *args[1:]))
        said = _answers.said(model, inputs)
        noise = torch.randn(said.shape, generator=draw)
        cosines = torch.cosine_similarity(said[0::2], said[1::2])
        losses = {
            "fisher": (torch.nn.functional.normalize(said, dim=-1) * noise).sum(),
            "taylor": len(labels) * similarity.ranking(cosines, labels),
        }
        for how, loss in losses.items():
            (slope,) = torch.autograd.grad(loss, mask, retain_graph=True)
            wanted[how] += (slope[:, 0].square() if how == "fisher" else slope[:, 0]).sum(0)
        hook.remove()
    for how in wanted:
        (found,) = importance(model, [Units("encoder.layer.1", "ffn", place, 64, 1)], how, 8, given)
        assert torch.allclose(found, wanted[how].abs() / 16, rtol=1e-3, atol=1e-7), how


def test_importance_by_labels_needs_some(opened, context):
    for name, role in (("bert-tags", "tags"), ("bert-pairs", "score")):
        model = opened(name)
        given = context(model, count=4)
        nothing = [[-1] * len(row["tokens"]) if role == "tags" else math.nan for row in given.calibration]
        bare = given.calibration.remove_columns(role).add_column(role, nothing)
        unit = Units("", "ffn", f"{model.blocks()[1][0]}.output.dense", 64, 1)
        with pytest.raises(StepError, match="taylor goes by labels"):
            importance(model, [unit], "taylor", 4, replace(given, calibration=bare))
