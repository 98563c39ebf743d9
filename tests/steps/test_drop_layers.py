"""drop_layers: which blocks stay, and what the measured influence sees."""

import dataclasses

import pytest
import torch
import transformers

from compressit import steps, weights
from compressit.errors import RecipeError
from compressit.steps.drop_layers import Config, chosen, foresee, measure_divergence, measure_influence, run
from tests import tiny


@pytest.mark.parametrize(
    ("keep", "choose", "depth", "kept"),
    [
        (6, "spaced", 12, [0, 2, 4, 7, 9, 11]),
        (2, "spaced", 6, [0, 5]),
        (1, "spaced", 6, [0]),
        (2, "first", 6, [0, 1]),
        (2, "last", 6, [4, 5]),
        ((0, 3), "spaced", 6, [0, 3]),
    ],
)
def test_which_blocks_stay(keep, choose, depth, kept):
    assert chosen(Config(step="drop_layers", keep=keep, choose=choose), depth) == kept


@pytest.mark.parametrize("keep", [6, 7, (2, 1), (1, 1), (6,)])
def test_impossible_choices_are_errors(keep):
    with pytest.raises(RecipeError, match="keep"):
        chosen(Config(step="drop_layers", keep=keep), 6)


@pytest.mark.parametrize("name", ["bert", "distilbert", "modernbert", "llama", "vit"])
def test_the_blocks_that_stay_compute_what_they_did(name, opened, context, logits):
    """Cutting the last blocks off equals stopping early, which a hook can watch."""
    model = opened(name)
    given = context(model)
    seen = []
    block = model.blocks()[1][1]
    handle = block.register_forward_hook(
        lambda part, args, output: seen.append(output[0] if isinstance(output, tuple) else output)
    )
    logits(model, given)
    handle.remove()
    cut = opened(name)
    run(cut, Config(step="drop_layers", keep=2, choose="first"), given)
    assert cut.module.config.num_hidden_layers == 2
    again = []
    last = cut.blocks()[-1][1]
    last.register_forward_hook(
        lambda part, args, output: again.append(output[0] if isinstance(output, tuple) else output)
    )
    logits(cut, given)
    assert all(torch.equal(one, two) for one, two in zip(seen, again, strict=True))


@pytest.mark.parametrize("name", ["bert", "vit"])
def test_a_block_that_does_next_to_nothing_goes_first(name, opened, context):
    model = opened(name)
    block = model.blocks()[2][1]
    with torch.no_grad():
        for part in block.modules():
            # A residual branch that ends in zeros leaves its input alone.
            if isinstance(part, torch.nn.Linear):
                part.weight.mul_(0.01)
                part.bias.mul_(0.01)
    given = context(model)
    config = Config(step="drop_layers", keep=3, choose="influence")
    influence = measure_influence(model, config, given)
    assert min(range(4), key=influence.__getitem__) == 2
    notes = run(model, config, given)
    assert notes["kept"] == "0, 1, 3"


def test_influence_does_not_see_padding(opened, context):
    model = opened("bert")
    given = context(model)
    alone = measure_influence(model, Config(step="drop_layers", keep=3, choose="influence", batch_size=1), given)
    padded = measure_influence(model, Config(step="drop_layers", keep=3, choose="influence", batch_size=64), given)
    assert alone == pytest.approx(padded, abs=1e-6)


@pytest.mark.parametrize("name", ["bert", "llama", "vit"])
def test_divergence_is_that_of_the_model_without_the_block(name, opened, context, logits):
    model = opened(name)
    given = context(model, count=20)
    config = Config(step="drop_layers", keep=2, choose="divergence", batch_size=7)
    p = logits(model, given).double().log_softmax(-1)
    wanted = {}
    for index in (0, 1, 3):
        cut = opened(name)
        run(cut, Config(step="drop_layers", keep=tuple({0, 1, 3} - {index})), given)
        q = logits(cut, given).double().log_softmax(-1)
        wanted[index] = float((p.exp() * (p - q)).sum(-1).mean())
    assert measure_divergence(model, config, given, [0, 1, 3]) == pytest.approx(wanted, rel=1e-3, abs=1e-6)
    assert torch.equal(logits(model, given).double().log_softmax(-1), p)


def test_divergence_drops_one_after_the_other(opened, context):
    model = opened("bert")
    given = context(model)
    config = Config(step="drop_layers", keep=2, choose="divergence")
    first = measure_divergence(model, config, given, range(4))
    kept = [index for index in range(4) if index != min(first, key=first.get)]
    second = measure_divergence(model, config, given, kept)
    kept.remove(min(second, key=second.get))
    assert run(model, config, given)["kept"] == ", ".join(map(str, kept))


def test_influence_asks_for_calibration_data_and_the_others_do_not():
    ask = steps.load("drop_layers").Config
    assert ask(step="drop_layers", keep=2, choose="influence").needs()
    assert ask(step="drop_layers", keep=2, choose="divergence").needs()
    assert not ask(step="drop_layers", keep=2).needs()


@pytest.mark.parametrize("name", [*tiny.TEXTS, *tiny.PICTURES])
def test_every_family_loses_blocks_and_opens_in_plain_transformers(name, opened, context, logits, family, tmp_path):
    model = opened(name)
    given = context(model, count=16)
    config = Config(step="drop_layers", keep=2, choose="influence")
    if name in ("albert", "t5", "t5-gated", "bart"):
        with pytest.raises(RecipeError, match="dropped"):
            run(model, config, given)
        with pytest.raises(RecipeError, match="dropped"):
            foresee(weights.read(family(name)), config)
        return
    run(model, config, given)
    before = logits(model, given)
    model.save(tmp_path)
    kind = "Image" if name in tiny.PICTURES else "Sequence"
    plain = getattr(transformers, f"AutoModelFor{kind}Classification").from_pretrained(tmp_path).eval()
    assert torch.allclose(logits(dataclasses.replace(model, module=plain), given), before, atol=1e-6)
    assert plain.config.num_hidden_layers == len(model.blocks()) == 2
