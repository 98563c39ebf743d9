"""Cutting heads and neurons: which ones go, how many, and what a model without them answers."""

import contextlib
from dataclasses import replace

import datasets
import pytest
import torch
import transformers

from compressit import anatomy, data, weights
from compressit import model as models
from compressit.errors import RecipeError
from compressit.steps import _cutting, _importance, load
from tests.anatomy.conftest import FAMILIES

MEASURES = ["fisher", "taylor", "activation", "magnitude"]


def config(name, **fields):
    return load(name).Config(step=name, **{"sparsity": 0.5, **fields})


def silence(model, block, inputs, kind):
    """Zero what some inputs of a block's matrix give."""
    name = anatomy.down(model.module, block) if kind == "ffn" else anatomy.output(model.module, block, kind)
    with torch.no_grad():
        model.module.get_submodule(name).weight[:, list(inputs)] = 0


@pytest.mark.parametrize("importance", MEASURES)
@pytest.mark.parametrize("rounds", [1, 3])
def test_neurons_that_say_nothing_go_first_and_nothing_changes(importance, rounds, opened, context, logits):
    model = opened("bert")
    silent = {name: range(0, anatomy.neurons(model.module, name), 2) for name, _ in model.blocks()}
    for name, inputs in silent.items():
        silence(model, name, inputs, "ffn")
    given = context(model)
    before = logits(model, given)
    half = {name: anatomy.neurons(model.module, name) // 2 for name in silent}
    notes = load("prune_ffn").run(model, config("prune_ffn", importance=importance, rounds=rounds, multiple=1), given)
    assert {name: anatomy.neurons(model.module, name) for name in silent} == half
    assert torch.allclose(logits(model, given), before, atol=1e-5)
    assert notes["opens_in_plain_transformers"]


@pytest.mark.parametrize("importance", MEASURES)
@pytest.mark.parametrize("name", ["bert", "llama", "vit", "mpnet", "beit-shared"])
def test_heads_that_say_nothing_go_first_with_their_key_value_heads(importance, name, opened, context, logits):
    model = opened(name)
    for block, _ in model.blocks():
        heads = anatomy.heads(model.module, block)
        silence(model, block, range(heads.shared * heads.head_dim * (heads.groups // 2)), "self")
    given = context(model)
    before = logits(model, given)
    groups = [anatomy.heads(model.module, block).groups for block, _ in model.blocks()]
    load("prune_heads").run(model, config("prune_heads", importance=importance), given)
    left = [anatomy.heads(model.module, block) for block, _ in model.blocks()]
    assert [heads.groups for heads in left] == [count - count // 2 for count in groups]
    assert all(heads.count == heads.groups * heads.shared for heads in left)
    assert torch.allclose(logits(model, given), before, atol=1e-5)


@pytest.mark.parametrize("importance", MEASURES)
def test_cross_attentions_lose_as_many_heads_each_its_own(importance, opened, context, logits, family, tmp_path):
    model = opened("t5")
    for number, (block, _) in enumerate(model.blocks()):
        for kind in anatomy.attentions(model.module, block):
            heads = (number % 4, (number + 2) % 4) if kind == "cross" else (1, 2)
            silence(model, block, [head * 8 + row for head in heads for row in range(8)], kind)
    given = context(model)
    before = logits(model, given)
    settings = config("prune_heads", importance=importance, rounds=2)
    foreseen = load("prune_heads").foresee(weights.read(family("t5")), settings)
    notes = load("prune_heads").run(model, settings, given)
    assert notes["left"] == "2, 2, 2"
    assert notes["cut"] == 2 * 3 * 4
    assert notes["opens_in_plain_transformers"]
    assert torch.allclose(logits(model, given), before, atol=1e-5)
    model.save(tmp_path)
    assert weights.read(tmp_path).parameters == foreseen.parameters
    plain = transformers.AutoModelForSequenceClassification.from_pretrained(tmp_path).eval()
    assert plain.config.num_heads == 2
    assert torch.allclose(logits(replace(model, module=plain), given), before, atol=1e-5)


@pytest.mark.parametrize("name", ["bert", "mpnet"])
@pytest.mark.parametrize("how", ["fisher", "taylor"])
def test_derivatives_are_those_of_each_example_alone(how, name, opened, context):
    model = opened(name)
    given = replace(context(model, count=12), seed=3)
    units = load("prune_heads").units(model.module)
    found = _importance.importance(model, units, how, 4, given)
    draw = torch.Generator().manual_seed(3)
    wanted = [torch.zeros(each.count) for each in units]
    for _, batch in data.batches(given.calibration, model, 4):
        labels = batch.pop("labels")
        with torch.no_grad():
            odds = model.module(**batch).logits.softmax(-1)
        targets = torch.multinomial(odds, 1, generator=draw)[:, 0] if how == "fisher" else labels
        for row in range(len(labels)):
            one = {key: value[row : row + 1] for key, value in batch.items()}
            for index, each in enumerate(units):
                slopes = torch.tensor([slope(model, each, head, one, targets[row]) for head in range(each.count)])
                wanted[index] += slopes**2 if how == "fisher" else slopes
    for some, true in zip(found, wanted, strict=True):
        assert torch.allclose(some, true.abs() / 12, rtol=0.05, atol=1e-4)


def test_where_each_position_has_a_loss_each_has_a_derivative(storyteller, context):
    model = models.load(storyteller / "model", "text-generation")
    rows = datasets.Dataset.from_dict({"text": [(storyteller / "test.txt").read_text()[:1500]]})
    given = replace(context(model), calibration=rows, max_length=32)
    units = load("prune_heads").units(model.module)
    found = _importance.importance(model, units, "fisher", 1, given)
    draw, wanted = torch.Generator().manual_seed(0), [torch.zeros(each.count) for each in units]
    count = 0
    for _, batch in data.batches(rows, model, 1, 32):
        labels = batch.pop("labels")
        masks = [torch.ones(1, labels.shape[1], each.count, 1, requires_grad=True) for each in units]
        with contextlib.ExitStack() as stack:
            for each, mask in zip(units, masks, strict=True):
                hook = model.module.get_submodule(each.matrix).register_forward_pre_hook(
                    lambda module, args, each=each, mask=mask: (
                        (args[0].unflatten(-1, (each.count, -1)) * mask).flatten(-2),
                    )
                )
                stack.callback(hook.remove)
            logits = model.module(**batch).logits[:, :-1][labels[:, 1:] != -100]
            targets = torch.multinomial(logits.detach().softmax(-1), 1, generator=draw)[:, 0]
            loss = torch.nn.functional.cross_entropy(logits, targets, reduction="sum")
            for total, grad in zip(wanted, torch.autograd.grad(loss, masks), strict=True):
                total += grad.square().sum((0, 1, 3))
        count += 1
    assert count > 3
    for some, true in zip(found, wanted, strict=True):
        assert torch.allclose(some, true / count, rtol=1e-3, atol=1e-6)


def slope(model, units, head, inputs, target, step=1e-2):
    """How the loss changes with the size of what one head says, by two passes."""

    def loss(size):
        def scale(module, args):
            scaled = args[0].clone()
            scaled[..., head * units.each : (head + 1) * units.each] *= size
            return (scaled, *args[1:])

        with contextlib.ExitStack() as stack, torch.no_grad():
            for _, matrix in units.members:
                stack.callback(model.module.get_submodule(matrix).register_forward_pre_hook(scale).remove)
            return float(-model.module(**inputs).logits.double().log_softmax(-1)[0, target])

    return (loss(1 + step) - loss(1 - step)) / (2 * step)


def test_numbers_add_up_wherever_neurons_go():
    scores = [torch.arange(40.0), torch.arange(40.0) + 100, torch.arange(40.0) / 10]
    spread = config("prune_ffn", multiple=8)
    kept = _cutting.chosen(scores, _cutting.amounts([40] * 3, spread, 0.5), spread)
    # All of those that matter most, the rest from the next, and a few everywhere.
    assert [len(keep) for keep in kept] == [16, 40, 8]
    even = config("prune_ffn", multiple=8, uniform=True)
    assert [len(keep) for keep in _cutting.chosen(scores, _cutting.amounts([40] * 3, even, 0.5), even)] == [16] * 3
    most = config("prune_ffn", multiple=8, sparsity=0.99)
    assert [len(keep) for keep in _cutting.chosen(scores, _cutting.amounts([40] * 3, most, 0.99), most)] == [8] * 3


@pytest.mark.parametrize(
    ("counts", "share", "unit", "left"),
    [
        ([64, 128, 256], 0.5, 8, [32, 64, 128]),
        ([32, 32, 256], 0.1, 8, [32, 24, 232]),
        ([8, 8, 256], 0.9, 8, [8, 8, 8]),
        ([10, 30], 0.5, 1, [5, 15]),
        ([20, 20, 20], 0.5, 8, [16, 8, 8]),
    ],
)
def test_a_share_of_unlike_blocks_is_in_proportion(counts, share, unit, left):
    assert _cutting.shared(counts, share, unit) == left


def test_a_share_that_cuts_nothing_is_an_error_before_any_work(family):
    table = weights.read(family("bert"))
    with pytest.raises(RecipeError, match=r"a share of 10% cuts nothing: the blocks have 4, 4"):
        load("prune_heads").foresee(table, config("prune_heads", sparsity=0.1, uniform=True))
    assert load("prune_heads").foresee(table, config("prune_heads", sparsity=0.2)).parameters < table.parameters


@pytest.mark.parametrize(
    ("fields", "remedy"),
    [
        ({"sparsity": 0.001, "multiple": 1, "uniform": True}, "raise sparsity, or leave out `uniform`"),
        ({"sparsity": 0.3, "multiple": 1000}, "raise sparsity, or lower multiple"),
        ({"sparsity": 0.001, "multiple": 1}, "raise sparsity"),
    ],
)
def test_what_is_advised_can_be_done(fields, remedy, family):
    with pytest.raises(RecipeError, match="cuts nothing") as raised:
        load("prune_ffn").foresee(weights.read(family("bert")), config("prune_ffn", **fields))
    assert raised.value.hint.startswith(remedy)
    assert ("multiple" in raised.value.hint, "uniform" in raised.value.hint) == (
        "multiple" in remedy,
        "uniform" in remedy,
    )


@pytest.mark.parametrize("name", ["bert", "llama", "gpt2", "modernbert", "phi3", "mpnet", "t5"])
@pytest.mark.parametrize("step", ["prune_ffn", "prune_heads"])
def test_the_plan_foresees_what_is_left(step, name, opened, context, family, tmp_path):
    model = opened(name)
    module, settings = load(step), config(step)
    foreseen = module.foresee(weights.read(family(name)), settings)
    module.run(model, settings, context(model))
    model.save(tmp_path / "saved")
    assert weights.read(tmp_path / "saved").parameters == foreseen.parameters
    again = models.load(tmp_path / "saved", model.task)
    assert again.module.num_parameters() == model.module.num_parameters()


@pytest.mark.parametrize("name", FAMILIES)
def test_every_family_is_cut_refitted_saved_and_opened_again(name, opened, context, logits, tmp_path):
    model = opened(name)
    given = context(model, count=16)
    for number, step in enumerate(["prune_ffn", "prune_heads"]):
        own = replace(given, scratch=tmp_path / f"scratch-{number}")
        # Layers that share a block can't be walked one by one.
        load(step).run(model, config(step, refit=name != "albert"), own)
    before = logits(model, given)
    assert bool(torch.isfinite(before).all())
    model.save(tmp_path / "saved")
    assert torch.allclose(logits(models.load(tmp_path / "saved", model.task), given), before, atol=1e-5)
