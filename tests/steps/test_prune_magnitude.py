"""prune_magnitude: how much goes, where, and what it refuses."""

import pytest
import torch

from compressit import weights
from compressit.errors import RecipeError
from compressit.steps.prune_magnitude import Config, claim, foresee, run
from tests.conftest import linears


def prune(**fields):
    return Config(step="prune_magnitude", **fields)


def shares(model):
    return {name: (layer.weight == 0).float().mean().item() for name, layer in linears(model).items()}


def test_every_layer_loses_the_same_share(opened, context):
    model = opened("bert")
    notes = run(model, prune(sparsity=0.75), context(model))
    assert notes == {"layers": 24, "sparsity": 0.75}
    assert {*shares(model).values()} == {0.75}


def test_all_layers_together_lose_the_smallest(opened, context):
    model, before = opened("bert"), linears(opened("bert"))
    run(model, prune(sparsity=0.5, scope="global"), context(model))
    kept = [before[name].weight[layer.weight != 0].abs().min() for name, layer in linears(model).items()]
    gone = [before[name].weight[layer.weight == 0].abs().max() for name, layer in linears(model).items()]
    assert max(gone) <= min(kept)
    assert len({*shares(model).values()}) > 1


def test_a_pattern_holds_in_every_group(opened, context):
    model = opened("vit")
    run(model, prune(pattern="2:4"), context(model))
    for layer in linears(model).values():
        assert {*(layer.weight == 0).unflatten(-1, (-1, 4)).sum(-1).flatten().tolist()} == {2}


def test_only_the_named_layers_change(opened, context):
    model, before = opened("bert"), opened("bert")
    run(model, prune(sparsity=0.5, include=("*attention*",), exclude=("*.value",)), context(model))
    for name, layer in linears(model).items():
        same = torch.equal(layer.weight, linears(before)[name].weight)
        assert same == ("attention" not in name or name.endswith("value"))


@pytest.mark.parametrize("fields", [{}, {"sparsity": 0.5, "pattern": "2:4"}, {"pattern": "4:4"}, {"sparsity": 1.0},
                                    {"pattern": "2:4", "scope": "global"}, {"pattern": "two"}])  # fmt: skip
def test_amounts_that_make_no_sense_are_errors(fields):
    with pytest.raises(ValueError, match=r"prune_magnitude|pattern|sparsity"):
        prune(**fields)


def test_a_pattern_that_does_not_fit_or_matches_nothing_is_found_by_the_plan(family):
    table = weights.read(family("bert"))
    with pytest.raises(RecipeError, match="needs inputs that 5 divides"):
        foresee(table, prune(pattern="2:5"))
    with pytest.raises(RecipeError, match=r"'\*atention\*' matches no layer"):
        foresee(table, prune(sparsity=0.5, include=("*atention*",)))


@pytest.mark.parametrize("fields", [{"sparsity": 0.5}, {"sparsity": 0.5, "scope": "global"}, {"pattern": "2:4"}])
def test_one_weight_too_many_breaks_the_promise(fields, opened, tmp_path, context):
    model = opened("vit")
    run(model, prune(**fields), context(model))
    model.save(tmp_path / "kept")
    assert claim(tmp_path / "kept", prune(**fields)) is None
    layer = next(iter(linears(model).values()))
    layer.weight.data[0, :8] = 1.0
    model.save(tmp_path / "broken")
    assert claim(tmp_path / "broken", prune(**fields))


def test_the_promise_is_checked_through_quantization(opened, tmp_path, context):
    from compressit.steps import quantize_rtn

    for number, fields in enumerate(({}, {"bits": 4, "group_size": 8, "symmetric": False}, {"activations": "int8"})):
        model = opened("vit")
        run(model, prune(pattern="2:4"), context(model))
        quantize_rtn.run(model, quantize_rtn.Config(step="quantize_rtn", **fields), context(model))
        model.save(tmp_path / str(number))
        assert claim(tmp_path / str(number), prune(pattern="2:4")) is None
