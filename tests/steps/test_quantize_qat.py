"""quantize_qat: what is saved is what was trained, zeros, what is gained, and going on after a kill."""

import contextlib
from dataclasses import replace

import pytest
import torch

from compressit import model as models
from compressit.errors import RecipeError, StepError
from compressit.steps import prune_magnitude, quantize_qat, quantize_rtn
from compressit.steps.quantize_qat import Config, claim, run
from tests.conftest import linears
from tests.steps.test_training import Killed, stories

__all__ = ["stories"]


def settings(**fields):
    few = {"bits": 2, "group_size": 16, "epochs": 1, "batch_size": 16, "learning_rate": 2e-3}
    return Config(step="quantize_qat", **{**few, **fields})


def test_a_language_model_learns_to_live_with_two_bits(stories, tmp_path):
    student, given, loss = stories
    student = given.teacher(None)
    before = loss(student)
    plain = given.teacher(None)
    rtn = quantize_rtn.Config(step="quantize_rtn", bits=2, group_size=16, clip="mse")
    quantize_rtn.run(plain, rtn, replace(given, scratch=tmp_path / "rtn"))
    assert run(student, settings(alpha=0.0, epochs=2), given)["updates"] > 0
    assert loss(student) - before < 0.3 * (loss(plain) - before)
    student.save(tmp_path / "saved")
    assert claim(tmp_path / "saved", settings()) is None
    assert loss(models.load(tmp_path / "saved", student.task)) == loss(student)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("symmetric", [True, False])
def test_what_the_last_pass_computed_is_what_is_saved(symmetric, dtype, opened, context, logits, monkeypatch, tmp_path):
    model = opened("bert")
    given = context(model)
    prune_magnitude.run(model, prune_magnitude.Config(step="prune_magnitude", sparsity=0.4), given)
    zeros = {name: layer.weight == 0 for name, layer in linears(model).items()}
    models.cast(model.module, dtype)
    computed, learn = {}, quantize_qat.distill.learn

    def looked_at(model, *more):
        notes = learn(model, *more)
        for name, layer in linears(model).items():
            # What comes out for each unit vector is a column of the weight.
            computed[name] = (layer(torch.eye(layer.in_features)) - layer.bias).T.detach()
        return notes

    monkeypatch.setattr(quantize_qat.distill, "learn", looked_at)
    run(model, settings(symmetric=symmetric, bits=3, rules=()), given)
    assert model.module.dtype == dtype
    model.save(tmp_path / "saved")
    again = models.load(tmp_path / "saved", model.task)
    assert torch.equal(logits(again, given), logits(model, given))
    for name, layer in linears(again).items():
        assert torch.allclose(layer.weight.float(), computed[name], atol=1e-6), name
        assert bool((layer.weight[zeros[name]] == 0).all()), name
        groups = layer.weight.float().unflatten(-1, (-1, 16)).flatten(0, 1)
        assert max(len(group.unique()) for group in groups) <= 8
    assert not [name for name in model.module.state_dict() if quantize_qat.HUNG in name]


def test_rounding_it_again_on_its_own_grid_changes_nothing(opened, context):
    model = opened("bert")
    run(model, settings(), context(model))
    for name, layer in linears(model).items():
        stored = model.quantized[name]
        groups = layer.weight.detach().unflatten(-1, (-1, 16))
        whole = (groups / stored.scale_OG[..., None]).round().clamp(-2, 1)
        assert torch.equal(whole.flatten(-2), stored.whole_OI.float()), name


def test_layers_may_differ_in_their_bits(opened, context, tmp_path):
    model, rules = opened("bert"), ({"layers": ("*output.dense",), "bits": 4, "group_size": "channel"},)
    config = settings(rules=rules)
    notes = run(model, config, context(model))
    assert (notes["layers_of_2_bits"], notes["layers_of_4_bits"]) == (16, 8)
    model.save(tmp_path / "saved")
    assert claim(tmp_path / "saved", config) is None
    assert claim(tmp_path / "saved", settings()) is not None


def test_a_killed_one_goes_on_and_ends_with_the_same_integers(opened, context, tmp_path):
    whole, broken, again = opened("bert"), opened("bert"), opened("bert")
    given, config, done = context(whole), settings(epochs=3, accumulate=2), 0
    run(whole, config, replace(given, scratch=tmp_path / "whole"))

    class Bars:
        def say(self, line):
            pass

        def bar(self, label, total):
            return contextlib.nullcontext(die if label == "quantize_qat" else lambda more: None)

    def die(more):
        nonlocal done
        done += more
        if done == 5:
            raise Killed

    kept = replace(given, scratch=tmp_path / "broken")
    with pytest.raises(Killed):
        run(broken, config, replace(kept, progress=Bars()))
    assert run(again, config, kept)["resumed"]
    for name, found in whole.quantized.items():
        assert torch.equal(found.whole_OI, again.quantized[name].whole_OI)
        assert torch.equal(found.scale_OG, again.quantized[name].scale_OG)
    pairs = zip(whole.module.named_parameters(), again.module.named_parameters(), strict=True)
    assert all(torch.equal(one, other) for (_, one), (_, other) in pairs)


@pytest.mark.parametrize(
    ("name", "fields", "message"),
    [("mixtral", {}, "experts"), ("gpt2", {}, "transposed"), ("bert", {"group_size": 24}, "group_size 24")],
)
def test_what_can_not_be_stored_is_refused(name, fields, message, opened, context):
    model = opened(name)
    with pytest.raises(RecipeError, match=message):
        run(model, settings(**fields), context(model))


def test_a_budget_holds_for_what_is_trained_too(opened, context, logits, tmp_path):
    model = opened("llama")
    given = context(model)
    config = Config(step="quantize_qat", average_bits=6, group_size=16, epochs=1, batch_size=16)
    notes = run(model, config, given)
    assert sum(notes[name] for name in notes if name.startswith("layers_of_")) == notes["layers"]
    model.save(tmp_path / "saved")
    assert claim(tmp_path / "saved", config) is None
    assert claim(tmp_path / "saved", config.model_copy(update={"average_bits": 3.0})) is not None
    assert torch.equal(logits(models.load(tmp_path / "saved", model.task), given), logits(model, given))


def test_matrices_that_are_spread_are_refused(opened, context, monkeypatch):
    monkeypatch.setenv("ACCELERATE_USE_FSDP", "true")
    monkeypatch.setenv("FSDP_VERSION", "2")
    model = opened("bert")
    with pytest.raises(StepError, match="FSDP"):
        run(model, settings(), replace(context(model), processes=2))
