"""Heads and neurons under one budget: which are worth their cost, and what is left."""

import itertools
from dataclasses import replace

import pytest
import torch

from compressit import anatomy, weights
from compressit import model as models
from compressit.errors import RecipeError
from compressit.steps import _cutting, _latency, load, prune_ffn, prune_heads, prune_structured
from tests import conftest, tiny
from tests.anatomy.conftest import FAMILIES


def config(**fields):
    return load("prune_structured").Config(step="prune_structured", **{"sparsity": 0.5, "multiple": 4, **fields})


def test_the_least_important_for_their_cost_go_until_the_budget_holds():
    scores = [torch.tensor([5.0, 1.0, 4.0]), torch.arange(10.0) / 10]
    kept = prune_structured.cheapest(scores, [10.0, 1.0], [1, 2], 26)
    # A neuron costs a tenth of a head: the head of 1.0 is worth 0.1 of cost, as much as neuron 1 is.
    assert kept[0] == [0, 2]
    assert kept[1] == [4, 5, 6, 7, 8, 9]
    with pytest.raises(RecipeError, match=r"which are 1\.20 of the budget"):
        prune_structured.cheapest(scores, [10.0, 1.0], [1, 2], 10)


def test_it_is_the_best_choice_there_is():
    draw = torch.Generator().manual_seed(0)
    scores = [torch.rand(3, generator=draw), torch.rand(4, generator=draw), torch.rand(4, generator=draw)]
    costs = [1.0, 1.0, 1.0]
    kept = prune_structured.cheapest(scores, costs, [1, 1, 1], 6)
    total = sum(float(score[keep].sum()) for score, keep in zip(scores, kept, strict=True))
    best = max(
        sum(float(score[list(keep)].sum()) for score, keep in zip(scores, chosen, strict=True))
        for chosen in itertools.product(*map(subsets, scores))
        if sum(map(len, chosen)) <= 6
    )
    assert total == pytest.approx(best)


def subsets(score):
    return [s for size in range(1, len(score) + 1) for s in itertools.combinations(range(len(score)), size)]


@pytest.mark.parametrize("name", FAMILIES)
def test_every_family_keeps_to_the_budget_and_opens_again(name, opened, context, logits, tmp_path):
    model = opened(name)
    given = context(model, count=16)
    units = prune_structured._units(model.module)
    whole = sum(prune_structured.costs(model.module, units, 128).values())
    notes = load("prune_structured").run(model, config(refit=name != "albert", multiple=8), given)
    left = sum(prune_structured.costs(model.module, prune_structured._units(model.module), 128).values())
    assert left <= 0.5 * whole
    assert notes["multiplications_left"] == pytest.approx(left / whole, abs=1e-4)
    before = logits(model, given)
    model.save(tmp_path / "saved")
    assert torch.allclose(logits(models.load(tmp_path / "saved", model.task), given), before, atol=1e-5)


def test_what_is_counted_is_what_is_multiplied(opened):
    module = opened("bert").module
    units = prune_structured._units(module)
    counted = prune_structured.costs(module, units, 128)
    block = "bert.encoder.layer.0"
    assert counted[block, "ffn"] == 2 * 32 * 64
    assert counted[block, "self"] == 4 * 32 * 32 + 2 * 128 * 32


def test_the_plan_foresees_about_what_is_left(opened, context, family):
    model = opened("bert")
    foreseen = load("prune_structured").foresee(weights.read(family("bert")), config())
    load("prune_structured").run(model, config(), context(model))
    assert foreseen.parameters == pytest.approx(model.module.num_parameters(), rel=0.2)
    unknown = replace(weights.read(family("bert")), model_type="olmoe")
    with pytest.raises(RecipeError, match="heads of olmoe can't be cut"):
        load("prune_structured").foresee(unknown, config())


@pytest.mark.parametrize("name", ["bert", "llama", "gpt2", "gpt_neox", "mpnet", "t5", "qwen2_moe"])
def test_the_plan_knows_what_can_not_be_cut(name, family, opened, context):
    """To within the last head: the plan refuses what the step would, and no more."""
    step, refused = load("prune_structured"), []
    for sparsity in (0.6, 0.65, 0.7, 0.75, 0.8, 0.85, 0.9, 0.95):
        fields = config(sparsity=sparsity, importance="magnitude", refit=False, multiple=8 if "moe" in name else 4)
        model = opened(name)
        foreseen = refuses(step.foresee, weights.read(family(name)), fields)
        refused.append((foreseen, refuses(step.run, model, fields, context(model))))
    assert all(foreseen == found for foreseen, found in refused)
    assert {found for _, found in refused} == {False, True}


def refuses(call, *arguments):
    try:
        call(*arguments)
    except RecipeError:
        return True
    return False


def test_the_plan_foresees_numbers_that_can_be(family):
    foreseen = load("prune_structured").foresee(weights.read(family("llama")), config(sparsity=0.3, multiple=16))
    found = prune_ffn.located(foreseen).counts.values()
    assert all(count % 16 == 0 for count in found)
    # Two key-value heads in each of four blocks: six of the eight stay, and some of those can be cut yet.
    assert sorted(prune_heads.located(foreseen).counts.values()) == [1, 1, 2, 2]


def test_by_chance_what_is_dear_is_no_likelier_to_go(opened, context):
    left = []
    for seed in range(8):
        model = opened("bert")
        given = context(model, count=1, seed=seed)
        random = config(sparsity=0.4, importance="random", refit=False, multiple=1, length=1)
        load("prune_structured").run(model, random, given)
        blocks = [name for name, _ in model.blocks()]
        left.append(sum(anatomy.heads(model.module, name).count for name in blocks) / 16)
    assert 0.4 < sum(left) / len(left) < 0.8


def test_blocks_that_say_nothing_are_cut_most(opened, context):
    model = opened("llama")
    first = model.blocks()[0][0]
    with torch.no_grad():
        model.module.get_submodule(anatomy.output(model.module, first)).weight.zero_()
        model.module.get_submodule(anatomy.down(model.module, first)).weight.zero_()
    load("prune_structured").run(model, config(sparsity=0.25), context(model))
    assert anatomy.neurons(model.module, first) == 4
    assert anatomy.heads(model.module, first).groups == 1


def test_a_copy_is_cut_and_timed_while_the_module_stays(opened, context, logits):
    model = opened("bert")
    given = context(model)
    units, before = prune_structured._units(model.module), logits(model, given)
    stay = [range(unit.count // 2) for unit in units]
    cut = _latency.without(model.module, units, stay)
    assert torch.equal(logits(model, given), before)
    assert cut.bert.embeddings.word_embeddings.weight is model.module.bert.embeddings.word_embeddings.weight
    for unit, keep in zip(units, stay, strict=True):
        _cutting.take_out(model.module, unit, [keep] * len(unit.members))
    batch = _latency.batch(model, 6, 20, given)
    assert all(value.shape == (6, 20) for value in batch.values())
    with torch.inference_mode():
        assert torch.equal(cut(**batch).logits, model.module(**batch).logits)


@pytest.mark.parametrize("name", ["t5", "bart"])
def test_a_decoder_behind_an_encoder_is_timed_on_texts_that_end_once(name, opened, context):
    model = opened(name)
    batch = _latency.batch(model, 6, 20, context(model))
    assert batch["input_ids"].shape == (6, 20)
    assert (batch["input_ids"] == model.module.config.eos_token_id).sum(1).tolist() == [1] * 6
    assert all(took > 0 for took in _latency.seconds([model.module], batch))


def test_a_budget_of_time_cuts_where_time_goes(opened, context, tmp_path):
    """Nearly all of it goes to neurons here."""
    folder = tmp_path / "wide"
    tiny.build("bert", intermediate_size=6144).save_pretrained(folder)
    conftest.tokenizer().save_pretrained(folder)
    model = models.load(folder, "text-classification")
    fields = {"budget": "latency", "importance": "magnitude", "refit": False, "multiple": 64, "length": 48}
    notes = load("prune_structured").run(model, config(sparsity=0.3, **fields), context(model))
    assert 0.3 < notes["multiplications_left"] < 0.95
    assert notes["latency_left"] > 0
    assert {need.value for need in config(budget="latency", importance="random", refit=False).needs()} == {
        "calibration"
    }
