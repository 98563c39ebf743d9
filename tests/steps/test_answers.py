"""What teachers say of each of a student's rows, and what labels are worth, for tasks of many answers."""

from dataclasses import replace

import pytest
import torch

from compressit import data, tasks
from compressit.errors import StepError
from compressit.steps import _answers, distill, finetune
from tests import tagged

TAGS = "token-classification"


def settings(step, **fields):
    return step.Config(step=step.__name__.rsplit(".", 1)[-1], **{"epochs": 1, "batch_size": 16, **fields})


def tagged_right(model, given):
    """The share of words whose tag the model finds."""
    right = words = 0
    with torch.no_grad():
        for _, batch in data.batches(given.train, model, 64):
            labels = batch.pop("labels")
            said, targets = _answers.scored(TAGS, _answers.said(TAGS, model.module, batch), labels)
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
        before, after = (_answers.said(TAGS, each.module, batch) for each in (one, two))
    p, q = before.log_softmax(-1), after.log_softmax(-1)
    moved = (p.exp() * (p - q)).sum(-1)
    wanted = sum(float(moved[row][labels[row] != -100].mean()) for row in range(4))
    assert _answers.apart(TAGS, before, after, labels) == pytest.approx(wanted, rel=1e-4)
