"""drop_layers: which blocks stay, and what the measured influence sees."""

import dataclasses

import pytest
import torch
import transformers

from compressit import anatomy, steps, weights
from compressit.errors import RecipeError
from compressit.steps.drop_layers import (
    Config,
    chosen,
    claim,
    foresee,
    measure_divergence,
    measure_influence,
    run,
)
from tests import tiny


@pytest.mark.parametrize(
    ("keep", "choose", "depth", "kept"),
    [
        (6, "spaced", 12, [0, 2, 4, 7, 9, 11]),
        (2, "spaced", 6, [0, 5]),
        (1, "spaced", 6, [0]),
        (2, "first", 6, [0, 1]),
        (2, "last", 6, [4, 5]),
        ((0, 3), None, 6, [0, 3]),
    ],
)
def test_which_blocks_stay(keep, choose, depth, kept):
    fields = {} if choose is None else {"choose": choose}
    assert chosen(Config(step="drop_layers", keep=keep, **fields), depth) == kept


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
@pytest.mark.parametrize("choose", ["influence", "divergence", "last"])
def test_every_family_loses_blocks_and_opens_in_plain_transformers(
    choose, name, opened, context, logits, family, tmp_path
):
    model = opened(name)
    given = context(model, count=16)
    config = Config(step="drop_layers", keep=1 if name == "bart" else 2, choose=choose)
    if name == "albert":
        with pytest.raises(RecipeError, match="dropped"):
            run(model, config, given)
        with pytest.raises(RecipeError, match="dropped"):
            foresee(weights.read(family(name)), config)
        return
    if (name, choose) == ("modernbert", "last"):
        return
    run(model, config, given)
    before = logits(model, given)
    model.save(tmp_path)
    plain = transparently(name, tmp_path)
    assert torch.allclose(logits(dataclasses.replace(model, module=plain), given), before, atol=1e-6)
    assert {len(stack) for stack in anatomy.stacks(plain)} == {config.keep}
    assert claim(tmp_path, config) is None


def transparently(name, folder):
    kind = "Image" if name in tiny.PICTURES else "Sequence"
    return getattr(transformers, f"AutoModelFor{kind}Classification").from_pretrained(folder).eval()


@pytest.mark.parametrize("name", ["t5", "t5-gated", "bart"])
@pytest.mark.parametrize("stack", ["encoder", "decoder"])
def test_a_first_block_that_adds_nothing_can_go_and_its_position_biases_stay(
    stack, name, opened, context, logits, family, tmp_path
):
    model = opened(name)
    place = ["encoder", "decoder"].index(stack)
    block, _ = anatomy.stacks(model.module)[place][0]
    with torch.no_grad():
        for kind in anatomy.attentions(model.module, block):
            mute(model.module.get_submodule(anatomy.output(model.module, block, kind)))
        mute(model.module.get_submodule(anatomy.down(model.module, block)))
        if name == "bart":
            # Its norms come after the residual sum: what was normed once is normed again.
            for part in model.module.modules():
                if isinstance(part, torch.nn.LayerNorm):
                    part.reset_parameters()
    given = context(model)
    before = logits(model, given)
    depths = [len(own) for own in anatomy.stacks(model.module)]
    config = Config(step="drop_layers", keep=tuple(range(1, depths[place])), stack=stack)
    foreseen = foresee(weights.read(family(name)), config)
    notes = run(model, config, given)
    assert notes["dropped"] == 1
    assert torch.allclose(logits(model, given), before, atol=1e-4)
    model.save(tmp_path)
    plain = transparently(name, tmp_path)
    assert torch.allclose(logits(dataclasses.replace(model, module=plain), given), before, atol=1e-4)
    depths[place] -= 1
    assert [len(own) for own in anatomy.stacks(plain)] == depths
    saved = weights.read(tmp_path)
    assert saved.parameters == foreseen.parameters
    assert saved.stacks() == foreseen.stacks()


def mute(part):
    part.weight.zero_()
    if part.bias is not None:
        part.bias.zero_()


@pytest.mark.parametrize("name", ["t5", "bart"])
def test_divergence_counts_the_blocks_of_both_stacks(name, opened, context, logits):
    model = opened(name)
    given = context(model, count=20)
    config = Config(step="drop_layers", keep=1, choose="divergence", batch_size=7)
    p = logits(model, given).double().log_softmax(-1)
    depths = [len(stack) for stack in anatomy.stacks(model.module)]
    wanted = {}
    for index in (0, depths[0]):
        cut = opened(name)
        left = [each for each in range(sum(depths)) if each != index]
        encoder = [each for each in left if each < depths[0]]
        anatomy.keep_blocks(cut.module, encoder, [each - depths[0] for each in left if each >= depths[0]])
        q = logits(cut, given).double().log_softmax(-1)
        wanted[index] = float((p.exp() * (p - q)).sum(-1).mean())
    found = measure_divergence(model, config, given, range(sum(depths)), [*wanted])
    assert found == pytest.approx(wanted, rel=1e-3, abs=1e-6)


def test_a_decoder_alone_is_cut_by_what_its_blocks_do(opened, context):
    model = opened("t5")
    given = context(model)
    config = Config(step="drop_layers", keep=2, choose="influence", stack="decoder")
    influence = measure_influence(model, config, given)[4:]
    most = sorted(sorted(range(4), key=lambda index: -influence[index])[:2])
    notes = run(model, config, given)
    assert notes["kept"] == f"encoder: 0, 1, 2, 3; decoder: {most[0]}, {most[1]}"
    alone = measure_influence(model, config.model_copy(update={"batch_size": 1}), given)
    assert alone == pytest.approx(measure_influence(model, config, given), abs=1e-5)


@pytest.mark.parametrize("choose", ["influence", "divergence"])
def test_a_first_block_unlike_the_others_stays(choose, opened, context, family):
    model = opened("modernbert")
    with torch.no_grad():
        block = model.blocks()[0][0]
        mute(model.module.get_submodule(anatomy.output(model.module, block)))
        mute(model.module.get_submodule(anatomy.down(model.module, block)))
    notes = run(model, Config(step="drop_layers", keep=1, choose=choose), context(model))
    assert notes["kept"] == "0"
    with pytest.raises(RecipeError, match="the first block of modernbert can't be dropped: only the first has no norm"):
        foresee(weights.read(family("modernbert")), Config(step="drop_layers", keep=2, choose="last"))


def test_a_stack_that_is_not_there_or_too_short_is_an_error(opened, context, family):
    with pytest.raises(RecipeError, match="bert has one stack"):
        foresee(weights.read(family("bert")), Config(step="drop_layers", keep=2, stack="decoder"))
    with pytest.raises(RecipeError, match="2 of 2 blocks") as raised:
        foresee(weights.read(family("bart")), Config(step="drop_layers", keep=2))
    assert "`stack`" in raised.value.hint
