"""Cutting channels between the convolutions of a ResNet: which ones go, and what a model without them answers."""

from pathlib import Path

import pytest
import torch

from compressit import anatomy, data, weights
from compressit import model as models
from compressit.algorithms.refit import DAMPING
from compressit.errors import RecipeError, StepError
from compressit.model import counting
from compressit.steps import _cutting, _importance, load

MEASURES = ["fisher", "taylor", "activation", "magnitude"]
NAMES = ["resnet", "resnet-bottleneck"]


def config(**fields):
    return load("prune_channels").Config(step="prune_channels", **{"sparsity": 0.5, "multiple": 1, **fields})


@pytest.fixture
def seasoned(opened, context):
    """Open a model whose batch norms have seen pictures, and let most of what they are given through."""

    def made(name, *, silent=False):
        model = opened(name)
        if silent:
            silence(model)
        draw = torch.Generator().manual_seed(5)
        for key, tensor in model.module.state_dict().items():
            if key.endswith(("normalization.weight", "normalization.bias")):
                tensor.copy_(torch.rand(tensor.shape, generator=draw) + 0.5)
        model.module.train()
        with torch.no_grad():
            for _, batch in data.batches(context(model).train, model, 64):
                for _ in range(30):
                    model.module(pixel_values=batch["pixel_values"])
        model.module.eval()
        return model

    return made


def silence(model):
    """Zero what the next convolution reads of every other channel."""
    for unit in load("prune_channels").units(model.module):
        with torch.no_grad():
            model.module.get_submodule(unit.matrix).weight[:, ::2] = 0


@pytest.mark.parametrize("importance", MEASURES)
@pytest.mark.parametrize("name", NAMES)
def test_channels_that_say_nothing_go_first_and_nothing_changes(name, importance, seasoned, context, logits, tmp_path):
    model = seasoned(name, silent=True)
    given = context(model)
    before, counts = logits(model, given), [each.count for each in load("prune_channels").units(model.module)]
    whole = {key: tensor.clone() for key, tensor in model.module.state_dict().items()}
    foreseen = load("prune_channels").foresee(weights.read(Path(model.source)), config(uniform=True))
    notes = load("prune_channels").run(model, config(importance=importance, rounds=2), given)
    assert [each.count for each in load("prune_channels").units(model.module)] == [count // 2 for count in counts]
    assert notes["cut"] == sum(counts) // 2
    assert not notes["opens_in_plain_transformers"]
    assert torch.allclose(logits(model, given), before, atol=1e-5)
    for unit in load("prune_channels").units(model.module):
        norm = anatomy.link(model.module, unit.matrix).norm
        for leaf in ("weight", "bias", "running_mean", "running_var"):
            kept = model.module.state_dict()[f"{norm}.{leaf}"]
            # What the norm over them took off may have changed, where it is the one behind the channels before.
            assert leaf == "running_mean" or torch.equal(kept, whole[f"{norm}.{leaf}"][1::2])
    model.save(tmp_path)
    table = weights.read(tmp_path)
    assert {t.name: t.shape for t in table.tensors} == {t.name: t.shape for t in foreseen.tensors}
    assert torch.allclose(logits(models.load(tmp_path, model.task), given), before, atol=1e-5)


@pytest.mark.parametrize("how", ["fisher", "taylor"])
def test_derivatives_are_those_of_each_example_alone(how, seasoned, context):
    model = seasoned("resnet-bottleneck")
    given = context(model, count=6)
    units = load("prune_channels").units(model.module)
    found = _importance.importance(model, units, how, 3, given)
    draw, wanted = torch.Generator().manual_seed(0), [torch.zeros(each.count) for each in units]
    for _, batch in data.batches(given.calibration, model, 3):
        labels = batch.pop("labels")
        with torch.no_grad():
            odds = model.module(**batch).logits.softmax(-1)
        targets = torch.multinomial(odds, 1, generator=draw)[:, 0] if how == "fisher" else labels
        for row in range(len(labels)):
            masks = [torch.ones(1, each.count, 1, 1, requires_grad=True) for each in units]
            hooks = [
                model.module.get_submodule(each.matrix).register_forward_pre_hook(
                    lambda p, args, m=mask: (args[0] * m,)
                )
                for each, mask in zip(units, masks, strict=True)
            ]
            said = model.module(pixel_values=batch["pixel_values"][row : row + 1]).logits
            loss = torch.nn.functional.cross_entropy(said, targets[row : row + 1])
            slopes = torch.autograd.grad(loss, masks)
            for hook in hooks:
                hook.remove()
            for total, slope in zip(wanted, slopes, strict=True):
                total += slope.flatten().square() if how == "fisher" else slope.flatten()
    for some, true in zip(found, wanted, strict=True):
        assert torch.allclose(some, true.abs() / 6, rtol=1e-3, atol=1e-7)


def test_importance_is_what_comes_out_behind_the_next_norm(seasoned, context):
    model = seasoned("resnet")
    first, *_ = units = load("prune_channels").units(model.module)
    convolution, norm = (model.module.get_submodule(name) for name in
                         (first.matrix, anatomy.link(model.module, first.matrix).after))  # fmt: skip
    scale = norm.weight / (norm.running_var + norm.eps).sqrt()
    sizes = (convolution.weight * scale[:, None, None, None]).square().sum((0, 2, 3))
    given = context(model, count=8)
    found, *_ = _importance.importance(model, units, "magnitude", 8, given)
    assert torch.allclose(found, sizes, rtol=1e-5)
    seen = []
    hook = convolution.register_forward_pre_hook(lambda part, args: seen.append(args[0]))
    with torch.no_grad():
        for _, batch in data.batches(given.calibration, model, 8):
            model.module(pixel_values=batch["pixel_values"])
    hook.remove()
    found, *_ = _importance.importance(model, units, "activation", 8, given)
    assert torch.allclose(found, sizes * torch.cat(seen).square().mean((0, 2, 3)), rtol=1e-4)


def test_the_last_cut_is_made_up_for_as_well_as_can_be(seasoned, context):
    # By hand: all patches of all pictures, less their mean, and the same damping.
    model = seasoned("resnet")
    given = context(model, count=20)
    last = load("prune_channels").units(model.module)[-1]
    convolution = model.module.get_submodule(last.matrix)
    norm = model.module.get_submodule(anatomy.link(model.module, last.matrix).after)
    whole, mean = convolution.weight.detach().clone().flatten(1).double(), norm.running_mean.clone()
    seen = []
    hook = convolution.register_forward_pre_hook(lambda part, args: seen.append(args[0]))
    with torch.no_grad():
        for _, batch in data.batches(given.calibration, model, 20):
            model.module(pixel_values=batch["pixel_values"])
    hook.remove()
    keep = list(range(0, last.count, 2))
    _cutting.refit_inputs(model, [last], [[keep]], config(precision="float32"), given)
    rows = torch.nn.functional.unfold(torch.cat(seen), 3, padding=1, stride=convolution.stride).transpose(1, 2)
    rows = rows.reshape(-1, rows.shape[-1]).double()
    middle = rows.mean(0)
    apart = rows - middle
    stays = torch.zeros(last.count, dtype=torch.bool)
    stays[keep] = True
    stays = stays.repeat_interleave(9)
    inner = apart[:, stays].T @ apart[:, stays]
    inner += DAMPING * inner.diagonal().mean() * torch.eye(len(inner))
    made_up = torch.linalg.solve(inner, apart[:, stays].T @ apart[:, ~stays] @ whole[:, ~stays].T).T
    wanted = torch.zeros_like(whole)
    wanted[:, stays] = whole[:, stays] + made_up
    assert torch.allclose(convolution.weight.flatten(1).double(), wanted, atol=1e-3)
    assert torch.allclose((norm.running_mean - mean).double(), (wanted - whole) @ middle, atol=2e-3)


@pytest.mark.parametrize("name", NAMES)
def test_those_that_stay_make_up_for_those_that_go(name, seasoned, context, logits):
    off = {}
    for refit, fields in ((True, {"precision": "float32"}), (False, {"refit": False})):
        model = seasoned(name)
        given = context(model)
        before = logits(model, given)
        load("prune_channels").run(model, config(importance="random", **fields), given)
        off[refit] = float((logits(model, given) - before).square().mean())
    assert off[True] < 0.5 * off[False]


def test_what_is_left_is_counted_in_the_sizes_that_stages_see(opened, tmp_path):
    # 8 x 8 pixels: a quarter of that behind the stem, then half of it.
    model = opened("resnet")
    places = {"stages.0": 4, "stages.1": 1}
    wanted = sum(
        part.weight.numel() * places[name.split("encoder.")[1][:8]]
        for name, part in model.module.named_modules()
        if isinstance(part, torch.nn.Conv2d) and "encoder." in name
    )
    assert counting.multiplications(Path(model.source), model.task) == wanted
    first, *_ = load("prune_channels").units(model.module)
    anatomy.cut_channels(model.module, first.matrix, range(8))
    model.save(tmp_path)
    assert counting.multiplications(tmp_path, model.task) == wanted - 4 * 2 * 8 * 16 * 9


@pytest.mark.parametrize("name", NAMES)
def test_a_budget_of_multiplications_is_kept_and_spent_where_channels_are_dear(name, seasoned, context, logits):
    model = seasoned(name)
    given = context(model, count=32)
    whole = counting.each(model.module, model.processor)
    convolutions = {key: part for key, part in model.module.named_modules() if key in whole}
    # Of the first stage: 2 x 2 places, in the second one.
    first = next(key for key in whole if "stages.0.layers.1.layer.0" in key)
    assert whole[first] == 4 * convolutions[first].weight.numel()
    fields = {"sparsity": 0.3, "budget": "multiplications", "multiple": 4, "rounds": 2}
    notes = load("prune_channels").run(model, config(**fields), given)
    left = counting.each(model.module, model.processor)
    assert 0.6 < sum(left.values()) / sum(whole.values()) <= 0.7
    assert notes["multiplications_left"] == pytest.approx(sum(left.values()) / sum(whole.values()), abs=1e-4)
    assert all(unit.count % 4 == 0 for unit in load("prune_channels").units(model.module))
    assert bool(torch.isfinite(logits(model, given)).all())
    with pytest.raises(RecipeError, match=r"times the multiplications that the budget leaves"):
        load("prune_channels").run(model, config(**{**fields, "sparsity": 0.99, "rounds": 1}), given)


def test_dear_channels_that_matter_as_little_go_first(opened):
    model = opened("resnet")
    units = load("prune_channels").units(model.module)
    made = counting.each(model.module, model.processor)
    whole, scores = sum(made.values()), [torch.ones(each.count) for each in units]
    kept = load("prune_channels").cheapest(model.module, units, scores, made, 1, 0.9 * whole)
    # A channel of the first stage is read and given in four places, one of the second in one, of twice the width.
    assert [len(own) < each.count for own, each in zip(kept, units, strict=True)] == [True, False, False]


def test_what_can_not_be_done_is_said(opened, context, family):
    model, table = opened("resnet"), weights.read(family("resnet"))
    with pytest.raises(RecipeError, match="prune_channels finds nothing to cut in a vit") as raised:
        load("prune_channels").foresee(weights.read(family("vit")), config())
    assert raised.value.hint == "prune_structured cuts heads and neurons"
    for step in ("prune_heads", "prune_structured"):
        with pytest.raises(RecipeError, match="resnet has no heads") as raised:
            load(step).foresee(table, load(step).Config(step=step, sparsity=0.5))
        assert raised.value.hint == "prune_channels cuts between convolutions"
    with pytest.raises(RecipeError, match="each stage of resnet has a width of its own") as raised:
        load("prune_width").foresee(table, load("prune_width").Config(step="prune_width", sparsity=0.5))
    assert raised.value.hint == "prune_channels cuts between convolutions"
    with pytest.raises(RecipeError, match="prune_channels finds nothing to cut in a vit"):
        load("prune_channels").run(opened("vit"), config(), context(opened("vit")))
    ffn = load("prune_ffn").Config(step="prune_ffn", sparsity=0.5)
    with pytest.raises(RecipeError, match="prune_ffn finds nothing to cut in a resnet") as raised:
        load("prune_ffn").foresee(table, ffn)
    assert raised.value.hint == "prune_channels cuts between convolutions"
    with pytest.raises(StepError, match="blocks of resnet have no feed-forward network"):
        load("prune_ffn").run(model, ffn, context(model))
    with pytest.raises(RecipeError, match="a share of 1% cuts nothing: the blocks have 16, 16, 32"):
        load("prune_channels").foresee(table, config(sparsity=0.01, multiple=8))
    with pytest.raises(StepError, match="none of the 16 channels of"):
        anatomy.cut_channels(model.module, load("prune_channels").units(model.module)[0].matrix, [])
