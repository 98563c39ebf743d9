"""refit: zeros stay, the answers come back, and what it can't do is said."""

from dataclasses import replace

import pytest
import torch

from compressit import model as models
from compressit import steps
from compressit.errors import StepError
from tests.conftest import linears


def config(**fields):
    return steps.load("refit").Config(step="refit", **fields)


def pruned(model, context):
    module = steps.load("prune_magnitude")
    module.run(model, module.Config(step="prune_magnitude", sparsity=0.6), context)
    return {name: layer.weight == 0 for name, layer in linears(model).items()}


@pytest.mark.parametrize("name", ["bert", "llama", "vit", "gpt2"])
def test_zeros_stay_and_the_answers_come_back(name, opened, context, logits):
    model = opened(name)
    given = context(model)
    before = logits(model, given)
    zero = pruned(model, context(model))
    far = float((logits(model, given) - before).norm())
    notes = steps.load("refit").run(model, config(), given)
    assert notes["layers"] == len(zero)
    assert all(bool((layer.weight[zero[key]] == 0).all()) for key, layer in linears(model).items())
    assert float((logits(model, given) - before).norm()) < 0.8 * far


def test_dense_layers_and_those_of_another_shape_stay(opened, context):
    model = opened("bert")
    given = context(model)
    before = {name: layer.weight.clone() for name, layer in linears(model).items()}
    name = next(iter(before))
    with torch.no_grad():
        linears(model)[name].weight[:, ::2] = 0
    steps.load("refit").run(model, config(), given)
    changed = [key for key, layer in linears(model).items() if not torch.equal(layer.weight, before[key])]
    assert changed == [name]


def test_it_says_what_it_cannot_do(opened, context):
    model = opened("bert")
    given = context(model)
    with pytest.raises(StepError, match="no layer holds zeros"):
        steps.load("refit").run(model, config(), given)


def test_blocks_that_are_left_find_their_own_weights_again(opened, context, logits):
    drop = steps.load("drop_layers")
    dense, model = opened("bert"), opened("bert")
    for each in (dense, model):
        drop.run(each, drop.Config(step="drop_layers", keep=(1, 3)), context(each))
    given = context(model)
    pruned(model, context(model))
    far = float((logits(model, given) - logits(dense, given)).norm())
    steps.load("refit").run(model, config(), given)
    assert float((logits(model, given) - logits(dense, given)).norm()) < 0.8 * far


def rounded(model, context, **fields):
    module = steps.load(fields.pop("step", "quantize_rtn"))
    config = module.Config(step=module.__name__.rpartition(".")[2], **fields)
    module.run(model, config, context)


@pytest.mark.parametrize("name", ["bert", "llama", "vit", "t5", "mixtral"])
def test_integers_stay_and_each_block_comes_nearer_to_the_originals(name, opened, context, logits, tmp_path):
    model = opened(name)
    given = context(model)
    rounded(model, context(model), bits=3, symmetric=name != "bert")
    whole = {key: each.whole_OI.clone() for key, each in model.quantized.items()}
    notes = steps.load("refit").run(model, config(learning_rate=1e-2), given)
    assert notes["layers"] == len(whole)
    assert 0 < notes["error_after"] < 0.85 * notes["error_before"]
    assert all(torch.equal(model.quantized[key].whole_OI, each) for key, each in whole.items())
    model.save(tmp_path / "saved")
    assert torch.equal(logits(models.load(tmp_path / "saved", model.task), given), logits(model, given))


def test_scales_that_are_off_are_found_again(opened, context):
    model = opened("llama")
    rounded(model, context(model), bits=8)
    name = next(key for key in model.quantized if key.endswith("v_proj"))
    true = model.quantized[name].scale_OG.clone()
    model.quantized[name] = replace(model.quantized[name], scale_OG=1.3 * true)
    linears(model)[name].weight.data.mul_(1.3)
    notes = steps.load("refit").run(model, config(epochs=60, learning_rate=2e-2, include=(name,)), context(model))
    assert notes["layers"] == 1
    assert notes["error_after"] < 0.05 * notes["error_before"]
    assert float((model.quantized[name].scale_OG / true).median()) == pytest.approx(1, abs=0.05)


def test_a_block_that_would_come_out_worse_stays(opened, context):
    model = opened("llama")
    rounded(model, context(model), bits=8)
    before = {key: each.clone() for key, each in model.module.state_dict().items()}
    notes = steps.load("refit").run(model, config(epochs=1, learning_rate=0.5), context(model))
    assert notes["error_after"] == notes["error_before"]
    assert all(torch.equal(each, before[key]) for key, each in model.module.state_dict().items())


@pytest.mark.parametrize(
    ("step", "fields", "why"),
    [("quantize_rtn", {"activations": "int8"}, "inputs are rounded"),
     ("quantize_float", {"format": "mxfp4"}, "scales of mxfp4 are rounded")],
)  # fmt: skip
def test_it_refuses_what_it_cannot_see_through(step, fields, why, opened, context):
    model = opened("llama")
    rounded(model, context(model), step=step, **fields)
    with pytest.raises(StepError, match=why):
        steps.load("refit").run(model, config(), context(model))


def test_blocks_that_were_cut_are_left(opened, context):
    model = opened("llama")
    cut = steps.load("prune_ffn")
    cut.run(model, cut.Config(step="prune_ffn", sparsity=0.5, uniform=True), context(model))
    rounded(model, context(model), bits=4)
    with pytest.raises(StepError, match="no layer was rounded that lies in a block of the original's shape"):
        steps.load("refit").run(model, config(), context(model))


def test_blocks_that_are_left_learn_from_their_own_again(opened, context):
    model = opened("llama")
    drop = steps.load("drop_layers")
    drop.run(model, drop.Config(step="drop_layers", keep=(1, 3)), context(model))
    rounded(model, context(model), bits=3)
    notes = steps.load("refit").run(model, config(), context(model))
    assert notes["error_after"] < 0.9 * notes["error_before"] < 0.5
