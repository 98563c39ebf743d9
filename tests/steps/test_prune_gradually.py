"""prune_gradually: how zeros grow, which weights go, what comes back, and going on after a kill."""

import contextlib
from dataclasses import replace
from types import SimpleNamespace

import pytest
import torch

from compressit import model as models
from compressit.errors import StepError
from compressit.model.matrices import Matrix
from compressit.steps import prune_gradually, prune_magnitude
from compressit.steps.prune_gradually import Config, claim, run
from tests.conftest import linears


def settings(**fields):
    few = {"epochs": 3, "batch_size": 16, "every": 1, "learning_rate": 1e-3}
    return Config(step="prune_gradually", **{**few, **({} if "pattern" in fields else {"sparsity": 0.75}), **fields})


class Bars:
    """Look at a model after each update."""

    def __init__(self, look):
        self.look = look

    def say(self, line):
        pass

    def bar(self, label, total):
        return contextlib.nullcontext(self.look if label == "prune_gradually" else lambda done: None)


def shares(model):
    return {name: (layer.weight == 0).float().mean().item() for name, layer in linears(model).items()}


def test_zeros_grow_by_the_cubic_schedule_and_then_stay(opened, context):
    model, seen = opened("bert"), []
    given = replace(context(model), progress=Bars(lambda done: seen.append(shares(model))))
    notes = run(model, settings(begin=1 / 6, end=5 / 6), given)
    assert notes["sparsity"] == 0.75
    assert notes["updates"] == len(seen) == 12
    # Twelve updates, of which zeros grow from the third to the tenth.
    for done, each in enumerate(seen, 1):
        progress = min(max((done - 2) / 8, 0), 1)
        wanted = 0.75 - 0.75 * (1 - progress) ** 3
        assert all(share == pytest.approx(wanted, abs=0.001) for share in each.values()), done
    assert {*seen[-1].values()} == {0.75}


@pytest.mark.parametrize("fields", [{"criterion": "movement"}, {"criterion": "movement", "scope": "global"},
                                    {"scope": "global", "control": True, "accumulate": 2},
                                    {"pattern": "2:4", "criterion": "movement", "precision": "bfloat16"}],
                         ids=["movement", "global", "labels", "pattern"])  # fmt: skip
def test_what_was_promised_is_on_the_file_and_earlier_zeros_are_among_it(fields, opened, context, tmp_path):
    model = opened("bert")
    given = context(model)
    prune_magnitude.run(model, prune_magnitude.Config(step="prune_magnitude", sparsity=0.3), given)
    before = {name: layer.weight.detach().clone() for name, layer in linears(model).items()}
    config = settings(**fields)
    notes = run(model, config, given)
    model.save(tmp_path / "saved")
    assert claim(tmp_path / "saved", config) is None
    assert not [name for name, _ in model.module.named_buffers() if prune_gradually.HUNG in name]
    after = {name: layer.weight for name, layer in linears(models.load(tmp_path / "saved", model.task)).items()}
    for name, weight in after.items():
        assert bool((weight[before[name] == 0] == 0).all()), name
        assert not torch.equal(weight[weight != 0], before[name][weight != 0])
    # An earlier zero may stand where the pattern has no need of one.
    assert notes["sparsity"] == pytest.approx(0.75) or ("pattern" in fields and 0.5 <= notes["sparsity"] < 0.6)
    assert (len({*shares(model).values()}) > 1) == ("scope" in fields or "pattern" in fields)


def test_what_is_zero_beyond_the_amount_stays_and_nothing_more_goes(opened, context):
    model = opened("bert")
    given = context(model)
    prune_magnitude.run(model, prune_magnitude.Config(step="prune_magnitude", sparsity=0.5), given)
    assert run(model, settings(epochs=1, sparsity=0.25), given)["sparsity"] == 0.5


@pytest.mark.parametrize("criterion", ["magnitude", "movement"])
def test_weights_go_and_come_back_as_in_plain_loops(criterion):
    draw = torch.Generator().manual_seed(0)
    layer = torch.nn.Linear(4, 4, bias=False)
    start = torch.randn(4, 4, generator=draw)
    layer.weight.data = start.clone()
    layer.config = SimpleNamespace(model_type="bert")
    chosen, config = {"": Matrix("", "weight")}, settings(criterion=criterion, end=1.0)
    value, score, out = start.flatten().tolist(), [0.0] * 16, [False] * 16
    came_back = 0
    with prune_gradually._hung(layer, chosen) as held:
        pruner = prune_gradually._pruner(layer, chosen, held, config)
        for done in range(1, 9):
            grad = torch.randn(4, 4, generator=draw)
            layer.weight.grad = grad.clone()
            pruner.on_pre_optimizer_step()
            assert bool((layer.weight.grad[torch.tensor(out).view(4, 4)] == 0).all())
            layer.weight.data -= layer.weight.grad
            pruner.on_step_end(None, SimpleNamespace(global_step=done, max_steps=8), None)
            for place, slope in enumerate(grad.flatten().tolist()):
                score[place] -= value[place] * slope
                value[place] -= 0 if out[place] else slope
            count = round((0.75 - 0.75 * (1 - done / 8) ** 3) * 16)
            worth = [abs(each) for each in value] if criterion == "magnitude" else score
            lowest = sorted(range(16), key=lambda place: worth[place])[:count]
            came_back += sum(was and place not in lowest for place, was in enumerate(out))
            out = [place in lowest for place in range(16)]
            wanted = [0.0 if gone else each for gone, each in zip(out, value, strict=True)]
            assert torch.allclose(layer.weight.detach().flatten(), torch.tensor(wanted), atol=1e-5)
    assert came_back
    assert [*layer.state_dict()] == ["weight"]


class Killed(BaseException):
    """What a kill looks like from inside."""


@pytest.mark.parametrize("fields", [{"criterion": "movement", "scope": "global"}, {"pattern": "1:4"}])
def test_a_killed_one_goes_on_and_ends_with_the_same_weights(fields, opened, context, tmp_path):
    whole, broken, again = opened("bert"), opened("bert"), opened("bert")
    given, config, done = context(whole), settings(**fields, every=2), 0
    run(whole, config, replace(given, scratch=tmp_path / "whole"))

    def die(more):
        nonlocal done
        done += more
        if done == 7:
            raise Killed

    kept = replace(given, scratch=tmp_path / "broken")
    with pytest.raises(Killed):
        run(broken, config, replace(kept, progress=Bars(die)))
    assert [*kept.scratch.glob("checkpoint-4/trainer_state.json")]
    assert run(again, config, kept)["resumed"]
    pairs = zip(whole.module.named_parameters(), again.module.named_parameters(), strict=True)
    assert all(torch.equal(one, other) for (_, one), (_, other) in pairs)


@pytest.mark.parametrize("fields", [{"sparsity": None}, {"pattern": "2:4", "scope": "global"}, {"pattern": "4:4"},
                                    {"begin": 0.7, "end": 0.7}])  # fmt: skip
def test_settings_that_make_no_sense_are_errors(fields):
    with pytest.raises(ValueError, match=r"prune_gradually|pattern|begin"):
        settings(**fields)


def test_matrices_that_are_spread_are_refused(opened, context, monkeypatch):
    monkeypatch.setenv("ACCELERATE_USE_FSDP", "true")
    monkeypatch.setenv("FSDP_VERSION", "2")
    model = opened("bert")
    with pytest.raises(StepError, match="FSDP"):
        run(model, settings(), replace(context(model), processes=2))
