"""refit: zeros stay, the answers come back, and what it can't do is said."""

import pytest
import torch

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
