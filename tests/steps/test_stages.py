"""Blocks in stages that differ in width: ConvNeXt's, with a feed-forward network and no attention, and ResNet's."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch
import transformers

from compressit import anatomy, data, weights
from compressit import model as models
from compressit.data.walking.statistics import Gram
from compressit.errors import RecipeError, StepError
from compressit.model import counting
from compressit.steps import _walking, load
from tests import tiny

MEASURES = ["fisher", "taylor", "activation", "magnitude"]


def config(name, **fields):
    return load(name).Config(step=name, **fields)


def silence(model):
    """Zero what every other neuron gives."""
    for name, _ in model.blocks():
        with torch.no_grad():
            model.module.get_submodule(anatomy.down(model.module, name)).weight[:, ::2] = 0


@pytest.mark.parametrize("importance", MEASURES)
def test_neurons_that_say_nothing_go_first_and_nothing_changes(importance, opened, context, logits, tmp_path):
    model = opened("convnext")
    silence(model)
    given = context(model)
    before = logits(model, given)
    counts = [anatomy.neurons(model.module, name) for name, _ in model.blocks()]
    fields = {"sparsity": 0.5, "multiple": 1, "importance": importance, "rounds": 2}
    notes = load("prune_ffn").run(model, config("prune_ffn", **fields), given)
    assert [anatomy.neurons(model.module, name) for name, _ in model.blocks()] == [count // 2 for count in counts]
    assert torch.allclose(logits(model, given), before, atol=1e-5)
    assert not notes["opens_in_plain_transformers"], "config.json has no word for it"
    model.save(tmp_path)
    assert torch.equal(logits(models.load(tmp_path, model.task), given), logits(model, given))


def test_those_that_stay_make_up_for_those_that_go(opened, context, logits):
    off = {}
    for refit, fields in ((True, {"precision": "float32"}), (False, {"refit": False})):
        model = opened("convnext")
        given = context(model)
        before = logits(model, given)
        load("prune_ffn").run(model, config("prune_ffn", sparsity=0.5, **fields), given)
        off[refit] = float((logits(model, given) - before).square().mean())
    assert off[True] < 0.5 * off[False]


def test_the_walk_shows_what_matrices_of_every_stage_see(opened, context):
    model = opened("convnext")
    given = context(model, count=20)
    chosen = model.matrices()
    seen = {name: [] for name in chosen}
    hooks = [
        model.module.get_submodule(name).register_forward_pre_hook(
            lambda part, args, name=name: seen[name].append(args[0].flatten(0, -2))
        )
        for name in chosen
    ]
    with torch.no_grad():
        for _, batch in data.batches(given.calibration, model, 20):
            model.module(pixel_values=batch["pixel_values"])
    for hook in hooks:
        hook.remove()
    found = {}
    settings = config("prune_ffn", sparsity=0.5, precision="float32")
    _walking.each_group(
        model, chosen, settings, given, Gram,
        lambda block, group: found.update({matrix.name: group.statistic.hessian() for matrix in group.matrices}),
    )  # fmt: skip
    assert found.keys() == chosen.keys()
    for name, rows in seen.items():
        rows_NI = torch.cat(rows)
        assert torch.allclose(found[name], 2 / len(rows_NI) * rows_NI.T @ rows_NI, atol=1e-4, rtol=1e-4)


def test_what_outputs_are_scaled_by_counts(opened, context):
    model = opened("convnext")
    (block, part), *_ = model.blocks()
    unit = [each for each in load("prune_ffn").units(model.module) if each.block == block]
    from compressit.steps._importance import importance

    with torch.no_grad():
        part.layer_scale_parameter.zero_()
        part.layer_scale_parameter[3] = 2.0
    (found,) = importance(model, unit, "magnitude", 8, context(model))
    assert torch.allclose(found, (2 * part.pwconv2.weight[3]).square())


@pytest.mark.parametrize(
    ("fields", "depths"),
    [({"keep": 3}, [1, 1, 1]), ({"keep": (0, 2)}, [1, 1, 0]), ({"keep": 2, "choose": "last"}, [0, 1, 1])],
)
def test_blocks_are_dropped_over_all_stages(fields, depths, opened, context, logits, tmp_path):
    model = opened("convnext")
    given = context(model, count=8)
    settings = config("drop_layers", **fields)
    foreseen = load("drop_layers").foresee(weights.read(Path(model.source)), settings)
    load("drop_layers").run(model, settings, given)
    before = logits(model, given)
    model.save(tmp_path)
    saved = weights.read(tmp_path)
    assert {t.name: t.shape for t in saved.tensors} == {t.name: t.shape for t in foreseen.tensors}
    assert load("drop_layers").claim(tmp_path, settings) is None
    plain = transformers.AutoModelForImageClassification.from_pretrained(tmp_path).eval()
    assert plain.config.depths == depths
    assert torch.equal(logits(replace(model, module=plain), given), before)


@pytest.mark.parametrize("choose", ["influence", "divergence"])
def test_a_block_that_does_nothing_goes_first(choose, opened, context, logits):
    model = opened("convnext")
    with torch.no_grad():
        model.blocks()[2][1].layer_scale_parameter.zero_()
    given = context(model, count=16)
    before = logits(model, given)
    notes = load("drop_layers").run(model, config("drop_layers", keep=3, choose=choose), given)
    assert notes == {"kept": "0, 1, 3", "dropped": 1}
    assert torch.allclose(logits(model, given), before, atol=1e-5)
    # An emptied stage is walked past.
    load("drop_layers").run(model, config("drop_layers", keep=(0, 2)), given)
    load("prune_ffn").run(model, config("prune_ffn", sparsity=0.5), given)
    assert bool(torch.isfinite(logits(model, given)).all())


@pytest.mark.parametrize("choose", ["spaced", "first", "last", "influence", "divergence"])
def test_each_stage_of_a_resnet_keeps_its_first_block(choose, context, logits, tmp_path):
    whole = models.Model(
        tiny.build("resnet", depths=[3, 2]), tiny.processor("resnet"), "image-classification", "resnet"
    )
    with torch.no_grad():
        # The last of each stage does nothing.
        for number in (2, 4):
            block = whole.blocks()[number][1]
            block.layer[1].normalization.weight.zero_()
            block.layer[1].normalization.bias.zero_()
    whole.save(tmp_path / "whole")
    model = models.load(tmp_path / "whole", "image-classification")
    given = context(model, count=16)
    before, settings = logits(model, given), config("drop_layers", keep=3, choose=choose)
    foreseen = load("drop_layers").foresee(weights.read(tmp_path / "whole"), settings)
    notes = load("drop_layers").run(model, settings, given)
    left = {"spaced": "0, 1, 3", "first": "0, 1, 3", "last": "0, 3, 4"}
    assert notes["kept"] == left.get(choose, "0, 1, 3")
    assert torch.allclose(logits(model, given), before, atol=1e-5) == (choose != "last")
    model.save(tmp_path / "saved")
    if choose not in ("influence", "divergence"):
        assert {t.name: t.shape for t in weights.read(tmp_path / "saved").tensors} == {
            t.name: t.shape for t in foreseen.tensors
        }
    plain = transformers.AutoModelForImageClassification.from_pretrained(tmp_path / "saved").eval()
    assert torch.equal(logits(replace(model, module=plain), given), logits(model, given))


def test_a_stage_of_a_resnet_without_its_first_block_is_refused(family, opened):
    table = weights.read(family("resnet"))
    with pytest.raises(RecipeError, match="block 2 of resnet can't be dropped: it takes pictures") as raised:
        load("drop_layers").foresee(table, config("drop_layers", keep=(0, 1)))
    assert raised.value.hint == "keep block 2"
    with pytest.raises(RecipeError, match="each of 2 stages keeps its first"):
        load("drop_layers").foresee(table, config("drop_layers", keep=1))
    with pytest.raises(RecipeError, match="3 of 3 blocks leaves nothing to drop"):
        load("drop_layers").foresee(table, config("drop_layers", keep=3))
    with pytest.raises(StepError, match=r"the first block of .*stages.1.layers can't be dropped"):
        anatomy.keep_blocks(opened("resnet").module, [0, 1])


def test_what_stages_multiply_is_counted_in_the_sizes_they_see(opened, tmp_path):
    # 8 x 8 pixels in patches of 2, then half of that each time.
    model = opened("convnext")
    per_place = [sum(w.numel() for w in (part.dwconv.weight, part.pwconv1.weight, part.pwconv2.weight))
                 for _, part in model.blocks()]  # fmt: skip
    wanted = sum(count * places for count, places in zip(per_place, (16, 4, 4, 1), strict=True))
    assert counting.multiplications(Path(model.source), model.task) == wanted
    name, part = model.blocks()[0]
    anatomy.cut_neurons(model.module, name, range(0, 128, 2))
    model.save(tmp_path)
    gone = 16 * (64 * 32 * 2)
    assert counting.multiplications(tmp_path, model.task) == wanted - gone
    assert part.pwconv1.out_features == 64


def test_what_can_not_be_done_is_said(opened, context):
    model = opened("convnext")
    table = weights.read(Path(model.source))
    for step in ("prune_heads", "prune_structured"):
        with pytest.raises(RecipeError, match="convnext has no heads") as raised:
            load(step).foresee(table, config(step, sparsity=0.5))
        assert raised.value.hint == "prune_ffn cuts neurons"
    with pytest.raises(RecipeError, match="each stage of convnext has a width of its own"):
        load("prune_width").foresee(table, config("prune_width", sparsity=0.5))
    with pytest.raises(RecipeError, match="convolves what it is given as it comes"):
        load("cast").foresee(table, config("cast"))
    with pytest.raises(StepError, match="one stack of different blocks, which a convnext is not"):
        load("distill").run(model, config("distill", hidden=1, epochs=1), context(model))
