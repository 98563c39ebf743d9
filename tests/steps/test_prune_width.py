"""Cutting channels: which ones go, how much stays, and what a model without them answers."""

from pathlib import Path

import pytest
import torch

from compressit import anatomy, weights
from compressit import model as models
from compressit.errors import RecipeError
from compressit.steps import load
from tests.anatomy.test_narrowing import FAMILIES, GONE, silence

REFIT = {True: {"refit": True, "precision": "float32"}, False: {"refit": False}}


def config(**fields):
    return load("prune_width").Config(step="prune_width", **{"sparsity": 0.25, "multiple": 4, **fields})


@pytest.mark.parametrize("importance", ["fisher", "taylor", "activation", "magnitude"])
@pytest.mark.parametrize("refit", [True, False])
def test_channels_that_say_nothing_go_first_and_nothing_changes(importance, refit, opened, context, logits):
    model = opened("llama")
    silence(model.module, GONE)
    given = context(model)
    before = logits(model, given)
    notes = load("prune_width").run(model, config(importance=importance, **REFIT[refit]), given)
    assert notes == {"cut": 8, "left": 24, "opens_in_plain_transformers": True}
    assert torch.allclose(logits(model, given), before, atol=2e-4)


@pytest.mark.parametrize("name", [name for name in FAMILIES if name != "mixtral"])
def test_every_family_is_narrowed_refitted_saved_and_opened_again(name, opened, context, logits, tmp_path):
    model = opened(name)
    given = context(model, count=16)
    foreseen = load("prune_width").foresee(weights.read(Path(model.source)), config())
    # Layers that share a block can't be walked one by one.
    load("prune_width").run(model, config(refit=name != "albert"), given)
    before = logits(model, given)
    assert bool(torch.isfinite(before).all())
    model.save(tmp_path / "saved")
    assert torch.allclose(logits(models.load(tmp_path / "saved", model.task), given), before, atol=1e-5)
    assert weights.read(tmp_path / "saved").parameters == pytest.approx(foreseen.parameters, rel=0.01)


def test_those_that_stay_make_up_for_those_that_go(opened, context, logits):
    model = opened("bert")
    given = context(model)
    before = logits(model, given)

    def off(refit):
        cut = opened("bert")
        load("prune_width").run(cut, config(**REFIT[refit]), context(cut))
        return float((logits(cut, given) - before).square().mean())

    assert off(True) < off(False)


def test_rounds_measure_anew_and_end_at_the_same_width(opened, context):
    model = opened("vit")
    notes = load("prune_width").run(model, config(sparsity=0.5, rounds=3), context(model))
    assert notes["left"] == anatomy.channels(model.module).count == 16


def test_a_share_that_cuts_nothing_is_an_error_before_any_work(family):
    with pytest.raises(RecipeError, match="a share of 10% cuts nothing out of 32 channels, 8 at a time"):
        load("prune_width").foresee(weights.read(family("bert")), config(sparsity=0.1, multiple=8))


def test_the_plan_and_the_step_ask_for_the_same_multiples_again_and_again(opened, context, family):
    table = load("prune_width").foresee(weights.read(family("bert")), config())
    model = opened("bert")
    load("prune_width").run(model, config(), context(model))
    # 24 channels, of 4 heads as before: a tenth is less than 8 of them.
    small = config(sparsity=0.1, multiple=8)
    for again in (
        lambda: load("prune_width").foresee(table, small),
        lambda: load("prune_width").run(model, small, context(model)),
    ):
        with pytest.raises(RecipeError, match="cuts nothing out of 24 channels, 8 at a time"):
            again()


def test_the_plan_reads_the_width_off_the_tensors_where_config_json_does_not_say_it(opened, context, tmp_path):
    model = opened("bert")
    load("prune_width").run(model, config(), context(model))
    model.save(tmp_path / "narrow")
    table = weights.read(tmp_path / "narrow")
    assert (table.width, table.heads, table.head_dim) == (24, 4, 8)
    foreseen = load("prune_width").foresee(table, config(sparsity=0.3))
    again = models.load(tmp_path / "narrow", model.task)
    load("prune_width").run(again, config(sparsity=0.3), context(model))
    assert again.module.num_parameters() == foreseen.parameters
