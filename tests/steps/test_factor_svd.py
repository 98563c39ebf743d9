"""factor_svd: two thin matrices for one, saved, reopened, exported, and what goes before and after."""

import contextlib
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from compressit import checkpoint, plan, recipe, weights
from compressit import model as models
from compressit.anatomy import factoring
from compressit.errors import RecipeError, StepError
from compressit.progress import Silent
from compressit.recipe import RecipeProblems
from compressit.steps import StepContext, factor_svd, prune_ffn
from tests.conftest import linears
from tests.steps.test_spread import loss, rows


def config(**fields):
    return factor_svd.Config(step="factor_svd", **fields)


@pytest.mark.parametrize("name", ["bert", "llama", "vit", "t5", "opt"])
def test_a_checkpoint_of_pairs_reopens_to_the_same_answers(name, opened, context, logits, tmp_path):
    model = opened(name)
    given = context(model)
    notes = factor_svd.run(model, config(sparsity=0.3), given)
    assert notes["layers"] == len(factoring.factored(model.module)) > 0
    assert 0.3 <= notes["saved"] < 0.45
    model.save(tmp_path / "saved")
    again = models.load(tmp_path / "saved", model.task)
    assert sorted(factoring.factored(again.module)) == sorted(factoring.factored(model.module))
    assert torch.equal(logits(again, given), logits(model, given))
    assert factor_svd.claim(tmp_path / "saved", config(sparsity=0.3)) is None
    assert "weights, not" in factor_svd.claim(tmp_path / "saved", config(sparsity=0.9))


def test_the_plan_foresees_what_is_saved(opened, context, tmp_path):
    model = opened("bert")
    foreseen = factor_svd.foresee(weights.read(Path(model.source)), config(sparsity=0.4))
    factor_svd.run(model, config(sparsity=0.4), context(model))
    model.save(tmp_path / "saved")
    shapes = {tensor.name: tensor.shape for tensor in weights.read(tmp_path / "saved").tensors}
    assert {tensor.name: tensor.shape for tensor in foreseen.tensors} == shapes


def test_next_to_no_error_leaves_next_to_no_change_and_calibration_beats_none(opened, context, logits):
    model, plain, white = opened("bert"), opened("bert"), opened("bert")
    given = context(model)
    before = logits(model, given)
    assert factor_svd.run(model, config(error=1e-9), given)["left_whole"] == 24, "nothing would be smaller"
    assert torch.equal(logits(model, given), before)
    factor_svd.run(plain, config(sparsity=0.5, whiten=False), context(plain))
    factor_svd.run(white, config(sparsity=0.5), context(white))
    far, near = (float((logits(each, given) - before).norm()) for each in (plain, white))
    assert near < far


def test_it_loses_far_less_than_the_plain_decomposition(storyteller, tmp_path):
    """Of a model that has learned something, at a like size: even, and less still as measured."""

    def opened():
        return models.load(storyteller / "model", "text-generation")

    calibration = rows(storyteller, "train.txt[:80]")
    textbook, before = opened(), loss(storyteller, opened())
    for layer in linears(textbook).values():
        (outputs, inputs), weight_OI = layer.weight.shape, layer.weight.data
        u, s, v = torch.linalg.svd(weight_OI, full_matrices=False)
        rank = int(0.6 * outputs * inputs / (outputs + inputs))
        weight_OI.copy_((u[:, :rank] * s[:rank]) @ v[:rank])
    risen = [loss(storyteller, textbook) - before]
    for spread in ("even", "measured"):
        model, asked = opened(), config(sparsity=0.4, spread=spread)
        given = StepContext(None, calibration, None, "cpu", 0, Silent(), tmp_path / f"of {spread}", max_length=64)
        notes = factor_svd.run(model, asked, given)
        assert 0.4 <= notes["saved"] < 0.45
        model.save(tmp_path / spread)
        assert factor_svd.claim(tmp_path / spread, asked) is None
        assert "weights, not" in factor_svd.claim(tmp_path / spread, config(sparsity=0.5, spread=spread))
        risen.append(loss(storyteller, model) - before)
    assert risen[0] > 2 * risen[1] > 2 * risen[2], risen


class Interrupted(Silent):
    """Breaks off after so many matrices."""

    @contextlib.contextmanager
    def bar(self, name, total):
        left = iter(range(13))

        def advance(count):
            for _ in range(count):
                if next(left, None) is None:
                    raise KeyboardInterrupt

        yield advance


def test_a_walk_that_was_interrupted_and_goes_on_makes_the_same(opened, context):
    whole, again = opened("bert"), opened("bert")
    notes = factor_svd.run(whole, config(sparsity=0.3), context(whole))
    given = context(again)
    with pytest.raises(KeyboardInterrupt):
        factor_svd.run(opened("bert"), config(sparsity=0.3), replace(given, progress=Interrupted()))
    assert factor_svd.run(again, config(sparsity=0.3), given) == notes
    state = again.module.state_dict()
    assert all(torch.equal(state[name], tensor) for name, tensor in whole.module.state_dict().items())


def test_a_model_that_was_cut_before_is_found_again(opened, context, logits, tmp_path):
    model = opened("bert")
    given = context(model)
    prune_ffn.run(model, prune_ffn.Config(step="prune_ffn", sparsity=0.4, multiple=1), context(model))
    factor_svd.run(model, config(sparsity=0.3), given)
    model.save(tmp_path / "saved")
    assert torch.equal(logits(models.load(tmp_path / "saved", model.task), given), logits(model, given))


def test_other_layers_stay_and_steps_after_see_ordinary_ones(opened, context, tmp_path):
    model = opened("bert")
    factor_svd.run(model, config(sparsity=0.5, include=("*.intermediate.*",)), context(model))
    assert all(".intermediate." in name for name in factoring.factored(model.module))
    assert len([name for name in linears(model) if name.endswith(factoring.REDUCE)]) == 4
    model.save(tmp_path / "saved")
    whole = checkpoint.multiplications(Path(model.source))
    assert checkpoint.multiplications(tmp_path / "saved") < whole


def test_what_it_cannot_do_is_refused(opened, context, write, sentiment):
    with pytest.raises(StepError, match="no linear layer of its own"):
        factor_svd.run(opened("gpt2"), config(sparsity=0.2), context(opened("gpt2")))
    with pytest.raises(RecipeError, match="transposed"):
        factor_svd.foresee(weights.read(Path(opened("gpt2").source)), config(sparsity=0.2))
    with pytest.raises(ValueError, match="either sparsity or error"):
        config()
    with pytest.raises(ValueError, match="spread: measured goes with sparsity"):
        config(error=0.1, spread="measured")
    text = (
        f"name: late\ntask: text-classification\nmodel: {sentiment / 'model'}\n"
        f"dataset: {{path: {sentiment}, calibration: train.jsonl, evaluation: test.jsonl,\n"
        "  columns: {text: sentence}}\n"
        "steps: [{step: factor_svd, sparsity: 0.3}, {step: prune_ffn, sparsity: 0.3}]\n"
    )
    with pytest.raises(RecipeProblems, match="layers that are two"):
        plan.plan(recipe.load(write(text)))
