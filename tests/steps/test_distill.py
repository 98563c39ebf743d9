"""distill: what else a student learns than answers, from whom, and from which rows."""

from dataclasses import replace

import pytest
import torch

from compressit import anatomy, data
from compressit import model as models
from compressit.errors import RecipeError, StepError
from compressit.steps import distill, drop_layers, finetune, prune_width
from compressit.steps._insides import KINDS, insides, paired
from compressit.steps._tapping import tapped
from tests import conftest, tiny
from tests.anatomy.conftest import FAMILIES, all_but

STACKED = [
    name for name in (*tiny.TEXTS, *tiny.PICTURES) if name not in ("t5", "t5-gated", "bart", "albert", "mixtral")
]


def settings(**fields):
    return distill.Config(step="distill", **{"epochs": 1, "batch_size": 16, **fields})


def first_batch(model, given):
    _, batch = next(data.batches(given.train, model, 8))
    return {name: value for name, value in batch.items() if name != "labels"}


def told(student, teacher, config, inputs):
    """Sum the losses on the inside of two models."""
    with insides(student.task, student.module, teacher.module, config) as inside, torch.no_grad():
        student.module(**inputs)
        teacher.module(**inputs)
        return [float(each) for each in inside(inputs)]


@pytest.mark.parametrize("name", [*STACKED, "bert-tags", "bert-qa", "bert-pairs", "bert-mask"])
def test_every_family_imitates_itself_and_not_another(name, opened, context):
    student, teacher = opened(name), opened(name)
    inputs = first_batch(student, context(student))
    config = settings(hidden=1.0, relations=1.0)
    assert told(student, teacher, config, inputs) == pytest.approx([0, 0], abs=1e-5)
    with torch.no_grad():
        for parameter in teacher.module.parameters():
            parameter.add_(0.1 * torch.randn(parameter.shape, generator=torch.Generator().manual_seed(1)))
    assert all(each > 1e-4 for each in told(student, teacher, config, inputs))


@pytest.mark.parametrize("name", [name for name in FAMILIES if name in STACKED])
def test_queries_keys_and_values_are_read_head_by_head(name, opened, context):
    """Without its first head, a block has the queries, keys and values of the others."""
    whole, cut = opened(name), opened(name)
    block = whole.blocks()[0][0]
    heads = anatomy.heads(cut.module, block)
    anatomy.cut_heads(cut.module, block, all_but(heads.groups, {0}))
    inputs = first_batch(whole, context(whole))
    found = []
    for model in (whole, cut):
        with tapped(model.module, relating=True) as layers, torch.no_grad():
            model.module(**inputs)
            found.append(layers[0].relating)
    for kind in KINDS:
        gone = heads.head_dim * (heads.shared if kind == "query" else 1)
        assert torch.allclose(found[0][kind][..., gone:], found[1][kind], atol=1e-6), kind


def test_which_blocks_are_paired():
    assert paired(3, 6, "even") == [1, 3, 5]
    assert paired(2, 4, "last") == [2, 3]
    assert paired(4, 4, "even") == [0, 1, 2, 3]
    assert paired(2, 12, (5, 11)) == [5, 11]
    for student, teacher, layers in ((2, 4, (1,)), (2, 4, (1, 4)), (5, 4, "even")):
        with pytest.raises(RecipeError, match="distill: "):
            paired(student, teacher, layers)


@pytest.mark.parametrize("fields", [{"hidden": 1.0}, {"relations": 1.0}, {"relations": 1.0, "relation_heads": 2}])
def test_a_narrower_and_shorter_student_comes_to_resemble_its_teacher(fields, opened, context):
    student, teacher = opened("bert"), opened("bert")
    given = replace(context(student, count=256), teacher=lambda path: teacher)
    drop_layers.run(student, drop_layers.Config(step="drop_layers", keep=(0, 2)), given)
    prune_width.run(student, prune_width.Config(step="prune_width", sparsity=0.25, refit=False), given)
    config, inputs = settings(logits=0.0, epochs=4, learning_rate=2e-3, **fields), first_batch(student, given)
    before = told(student, teacher, settings(relations=1.0), inputs)
    distill.run(student, config, given)
    if "relations" in fields:
        assert told(student, teacher, settings(relations=1.0), inputs)[0] < 0.7 * before[0]
    assert not any("learned" in name for name in student.module.state_dict())


def test_a_student_learns_from_unlabelled_rows_all_it_forgot(opened, context):
    teacher = opened("bert")
    held = context(teacher, count=400)
    student, test = opened("bert"), held.train.select(range(200, 400))
    rows = held.train.select(range(48)).remove_columns("label").add_column("label", [-100] * 48)
    given = replace(held, train=rows, teacher=lambda path: teacher)
    drop_layers.run(student, drop_layers.Config(step="drop_layers", keep=(0, 3)), given)
    torch.manual_seed(0)
    scramble(student)
    before = agreement(student, teacher, test)
    distill.run(student, settings(alpha=0.0, hidden=1.0, relations=0.3, epochs=12, learning_rate=1e-3), given)
    assert before < 0.7
    assert agreement(student, teacher, test) > 0.9


def scramble(student):
    """Make most of what the blocks know go."""
    with torch.no_grad():
        for _, block in student.blocks():
            for parameter in block.parameters():
                if parameter.dim() == 2:
                    parameter.copy_(0.02 * torch.randn_like(parameter))


def agreement(one, two, rows):
    right = 0
    with torch.inference_mode():
        for _, batch in data.batches(rows, one, 50):
            batch.pop("labels")
            right += int((one.module(**batch).logits.argmax(-1) == two.module(**batch).logits.argmax(-1)).sum())
    return right / len(rows)


def test_a_teacher_that_nobody_listens_to_is_not_opened(opened, context):
    model, labels = opened("bert"), settings(alpha=1.0)
    notes = distill.run(model, labels, replace(context(model), teacher=None))
    assert notes["teacher"] == "none: labels alone count"
    assert {need.value for need in labels.needs()} == {"training data"}
    assert settings(alpha=1.0, hidden=1.0, teacher="demo:stdlib").models() == ("demo:stdlib",)
    assert settings(control=True, teacher="demo:stdlib").models() == ()


def test_the_control_is_finetuning_byte_for_byte(opened, context, tmp_path):
    one, two = opened("bert"), opened("bert")
    finetune.run(one, finetune.Config(step="finetune", epochs=1, batch_size=16), context(one))
    control = settings(control=True, hidden=1.0, relations=1.0, alpha=0.0)
    notes = distill.run(two, control, replace(context(two), teacher=None))
    assert notes["control"] is True
    assert {need.value for need in control.needs()} == {"training data"}
    for a, b in zip(one.module.parameters(), two.module.parameters(), strict=True):
        assert torch.equal(a, b)


def test_several_teachers_teach_together(opened, context):
    """Two that disagree cancel out."""
    student, teacher, contrary = opened("bert"), opened("bert"), opened("bert")
    with torch.no_grad():
        contrary.module.classifier.weight.neg_()
        contrary.module.classifier.bias.neg_()
    given = replace(context(student), teacher={"one": teacher, "two": contrary}.__getitem__)
    config = settings(alpha=0.0, temperature=1.0, epochs=20, learning_rate=2e-3, teacher=("one", "two"))
    notes = distill.run(student, config, given)
    assert notes["teacher"] == "one, two"
    _, batch = next(data.batches(given.train, student, 64))
    batch.pop("labels")
    with torch.inference_mode():
        said = student.module(**batch).logits.softmax(-1)
    assert float((said - 0.5).abs().mean()) < 0.1


def test_a_teacher_that_runs_beside_its_student_is_not_asked_beforehand(opened, context, tmp_path):
    """Its logits come with its hidden states, in the student's order of labels, and are the same."""
    found = []
    for hidden in (0.0, 1e-12):
        student, teacher = opened("bert"), opened("bert")
        with torch.no_grad():
            teacher.module.classifier.weight.mul_(20)
        teacher.module.config.id2label = {0: "POSITIVE", 1: "NEGATIVE"}
        given = context(student, teacher=lambda path, teacher=teacher: teacher)
        seen = []
        teacher.module.register_forward_hook(lambda module, inputs, made, seen=seen: seen.append(len(made.logits)))
        distill.run(
            student, settings(alpha=0.0, hidden=hidden, epochs=2), replace(given, scratch=tmp_path / str(hidden))
        )
        assert sum(seen) == len(given.train) * (2 if hidden else 1)
        found.append(student.module.classifier.weight)
    assert torch.allclose(*found, atol=1e-5)


@pytest.mark.parametrize("fields", [{"logits": 0.0}, {"alpha": 1.0}])
def test_a_teacher_of_other_labels_may_show_its_hidden_states(fields, opened, context):
    student, teacher = opened("bert"), opened("bert")
    teacher.module.config.id2label = {0: "cat", 1: "dog"}
    given = context(student, teacher=lambda path: teacher)
    assert distill.run(student, settings(hidden=1.0, **fields), given)["updates"] == 4


def test_rows_without_labels(sentiment, opened, context):
    model = opened("bert")
    given = context(model)
    rows = given.train.remove_columns("label").add_column("label", [-100] * len(given.train))
    with pytest.raises(StepError, match="no row of the training split has a label"):
        finetune.run(model, finetune.Config(step="finetune", epochs=1), replace(given, train=rows))
    some = rows.remove_columns("label").add_column("label", [*given.train["label"][:20], *[-100] * 44])
    notes = distill.run(model, settings(alpha=0.7), replace(given, train=some))
    assert notes["updates"] == 4
    assert notes["loss"] > 0


def test_what_can_not_be_imitated_is_refused(opened, context):
    student = opened("bert")
    given = context(student)
    with pytest.raises(RecipeError, match="5 relation_heads don't divide"):
        distill.run(student, settings(relations=1.0, relation_heads=5), given)
    with pytest.raises(RecipeError, match="relation_block is 9"):
        distill.run(student, settings(relations=1.0, relation_block=9), given)
    for two in (opened("bart"), opened("albert")):
        with pytest.raises(StepError, match="one stack of different blocks"):
            distill.run(two, settings(hidden=1.0), context(two))
    other = opened("bert")
    conftest_tokens = conftest.tokenizer()
    conftest_tokens.add_tokens(["new"])
    other.processor = conftest_tokens
    with pytest.raises(StepError, match="another vocabulary"):
        distill.run(student, settings(hidden=1.0), replace(given, teacher=lambda path: other))
    with pytest.raises(ValueError, match="nothing to learn"):
        settings(logits=0.0)


def test_a_saved_student_opens_with_plain_transformers(opened, context, tmp_path):
    import transformers

    student = opened("bert")
    given = context(student)
    drop_layers.run(student, drop_layers.Config(step="drop_layers", keep=(0, 2)), given)
    distill.run(student, settings(hidden=1.0), given)
    student.save(tmp_path / "saved")
    again, info = transformers.AutoModelForSequenceClassification.from_pretrained(
        tmp_path / "saved", output_loading_info=True
    )
    assert not info["missing_keys"]
    assert not info["unexpected_keys"]
    assert models.load(tmp_path / "saved", student.task).module.config.num_hidden_layers == 2
    assert again.config.num_hidden_layers == 2
