"""Experts lose their own neurons, as many of a block each; those that saw too little lose theirs by magnitude."""

from dataclasses import replace

import datasets
import pytest
import torch
import transformers

from compressit import anatomy, weights
from compressit import model as models
from compressit.errors import RecipeError
from compressit.steps import _importance, load
from tests.anatomy.conftest import EXPERTS
from tests.conftest import story, story_tokenizer

MEASURES = ["fisher", "taylor", "activation", "magnitude"]


def config(step="prune_ffn", **fields):
    return load(step).Config(step=step, **{"sparsity": 0.5, **fields})


def stacked(model):
    """The experts of each block that has any, with how many neurons they have."""
    blocks = [name for name, _ in model.blocks() if "experts" in anatomy.networks(model.module, name)]
    counts = [anatomy.neurons(model.module, name, "experts") for name in blocks]
    return [
        (name, model.module.get_submodule(f"{name}.mlp.experts"), n) for name, n in zip(blocks, counts, strict=True)
    ]


def silence(model):
    """Zero what every other neuron of each network gives, in every other expert the other ones."""
    with torch.no_grad():
        for _, experts, _ in stacked(model):
            for expert, down_OI in enumerate(experts.down_proj):
                down_OI[:, expert % 2 :: 2] = 0
        for name, _ in model.blocks():
            if "ffn" in anatomy.networks(model.module, name):
                model.module.get_submodule(anatomy.down(model.module, name)).weight[:, ::2] = 0


@pytest.fixture
def narrator(tmp_path, context):
    """Give an OLMoE that goes on with stories, untrained, and what its steps are given."""
    text = story(40, 1)
    tokens = story_tokenizer(text)
    torch.manual_seed(0)
    module = transformers.OlmoeForCausalLM(
        transformers.OlmoeConfig(vocab_size=len(tokens), hidden_size=32, num_hidden_layers=2, num_attention_heads=4,
                                 num_key_value_heads=2, intermediate_size=32, num_experts=4, num_experts_per_tok=2,
                                 max_position_embeddings=128, bos_token_id=0, eos_token_id=1, pad_token_id=1)
    )  # fmt: skip
    for parameter in module.parameters():
        if parameter.dim() > 1:
            torch.nn.init.normal_(parameter, std=0.15)
    module.save_pretrained(tmp_path / "olmoe")
    tokens.save_pretrained(tmp_path / "olmoe")
    model = models.load(tmp_path / "olmoe", "text-generation")
    rows = datasets.Dataset.from_dict({"text": [text[:1500]]})
    return model, lambda: replace(context(model), train=rows, calibration=rows, max_length=32)


@pytest.mark.parametrize("importance", MEASURES)
@pytest.mark.parametrize("name", EXPERTS)
def test_neurons_that_say_nothing_go_first_and_nothing_changes(
    importance, name, opened, context, logits, family, tmp_path
):
    model = opened(name)
    silence(model)
    given = context(model)
    before, counts = logits(model, given), [count for _, _, count in stacked(model)]
    settings = config(importance=importance, rounds=2 if importance == "activation" else 1)
    foreseen = load("prune_ffn").foresee(weights.read(family(name)), settings)
    notes = load("prune_ffn").run(model, settings, given)
    assert [count for _, _, count in stacked(model)] == [count // 2 for count in counts]
    assert torch.allclose(logits(model, given), before, atol=1e-5)
    assert notes["opens_in_plain_transformers"]
    model.save(tmp_path)
    assert weights.read(tmp_path).parameters == foreseen.parameters
    plain = transformers.AutoModelForSequenceClassification.from_pretrained(tmp_path).eval()
    assert torch.allclose(logits(replace(model, module=plain), given), before, atol=1e-5)


@pytest.mark.parametrize("importance", ["fisher", "activation"])
def test_a_language_model_of_experts_whose_heads_nobody_described(importance, narrator, logits, tmp_path):
    model, given = narrator
    silence(model)
    before = logits(model, given())
    load("prune_ffn").run(model, config(importance=importance), given())
    assert {count for _, _, count in stacked(model)} == {16}
    assert torch.allclose(logits(model, given()), before, atol=1e-5)
    model.save(tmp_path / "saved")
    plain = transformers.AutoModelForCausalLM.from_pretrained(tmp_path / "saved").eval()
    assert plain.config.intermediate_size == 16
    assert torch.allclose(logits(replace(model, module=plain), given()), before, atol=1e-5)
    for step in ("prune_heads", "prune_structured"):
        with pytest.raises(RecipeError, match="heads of olmoe can't be cut"):
            load(step).foresee(weights.read(tmp_path / "saved"), config(step))
        with pytest.raises(RecipeError, match="heads of olmoe can't be cut"):
            load(step).run(model, config(step), given())


@pytest.mark.parametrize("how", ["fisher", "taylor"])
def test_derivatives_are_those_of_each_example_alone(how, opened, context):
    from compressit import data

    model = opened("mixtral")
    given = replace(context(model, count=24), seed=3)
    units = load("prune_ffn").units(model.module)
    found = _importance.importance(model, units, how, 5, given)[1]
    experts = stacked(model)[1][1]
    draw = torch.Generator().manual_seed(3)
    wanted = dict.fromkeys([(0, 3), (1, 40), (2, 7)], 0.0)
    for _, batch in data.batches(given.calibration, model, 5):
        labels = batch.pop("labels")
        with torch.no_grad():
            odds = model.module(**batch).logits.softmax(-1)
        targets = torch.multinomial(odds, 1, generator=draw)[:, 0] if how == "fisher" else labels
        for row, target in enumerate(targets):
            one = {key: value[row : row + 1] for key, value in batch.items()}
            for expert, neuron in wanted:
                slope = slope_of(model, experts.down_proj[expert][:, neuron], one, target)
                wanted[expert, neuron] += slope**2 if how == "fisher" else slope
    for (expert, neuron), total in wanted.items():
        assert float(found[expert, neuron]) == pytest.approx(abs(total) / 24, rel=0.05, abs=1e-6)


def slope_of(model, column, inputs, target, step=3e-2):
    """How the loss changes with the size of what one neuron of an expert says, by two passes."""
    whole, losses = column.detach().clone(), []
    with torch.no_grad():
        for size in (1 + step, 1 - step):
            column.copy_(whole * size)
            losses.append(float(-model.module(**inputs).logits.double().log_softmax(-1)[0, target]))
        column.copy_(whole)
    return (losses[0] - losses[1]) / (2 * step)


def test_experts_that_saw_too_few_tokens_lose_neurons_by_magnitude_and_are_counted(opened, context):
    model = opened("mixtral")
    sizes = [experts.down_proj.square().sum(1) for _, experts, _ in stacked(model)]
    before = [experts.down_proj.detach().clone() for _, experts, _ in stacked(model)]
    notes = load("prune_ffn").run(model, config(uniform=True), context(model, count=1))
    assert notes["starved"] == 16
    assert ".experts." in notes["first_starved"]
    for (_, experts, count), size_EI, whole in zip(stacked(model), sizes, before, strict=True):
        for expert, own_I in enumerate(size_EI):
            kept = sorted(own_I.argsort(descending=True)[:count].tolist())
            # Nor are they refitted.
            assert torch.equal(experts.down_proj[expert], whole[expert][:, kept])
    assert "starved" not in load("prune_ffn").run(opened("mixtral"), config(), context(model))


def test_neurons_that_stay_make_up_for_those_that_go(opened, context, logits):
    far = {}
    for fit in (True, False):
        model = opened("mixtral")
        with torch.no_grad():
            for _, experts, count in stacked(model):
                # Each neuron has a twin that says the same, and less loudly.
                half = count // 2
                for start in (0, count):
                    experts.gate_up_proj[:, start + half : start + count] = experts.gate_up_proj[
                        :, start : start + half
                    ]
                experts.down_proj[:, :, half:] *= 0.5
        given = context(model)
        before = logits(model, given)
        load("prune_ffn").run(model, config(importance="magnitude", refit=fit, uniform=True), given)
        far[fit] = float((logits(model, given) - before).abs().mean())
    assert far[True] < 0.3 * far[False]


@pytest.mark.parametrize("step", ["prune_ffn", "prune_structured"])
def test_rows_that_no_product_of_groups_takes_are_refused_before_any_work(step, opened, context, family):
    fields = config(step, multiple=4)
    for call, given in ((load(step).foresee, weights.read(family("mixtral"))), (load(step).run, opened("mixtral"))):
        with pytest.raises(RecipeError, match="experts are multiplied in groups") as raised:
            call(given, fields, *([context(given)] if call is load(step).run else []))
        assert "a multiple of 8" in raised.value.hint


def test_of_experts_those_that_a_token_meets_are_counted(opened):
    step = load("prune_structured")
    model = opened("qwen2_moe")
    counted = step.costs(model.module, step._units(model.module), 128)
    first, second = (name for name, _ in model.blocks()[:2])
    assert counted[first, "experts"] == 2 * 3 * 32 * 32
    assert counted[first, "ffn"] == 3 * 32 * 48
    assert counted[second, "ffn"] == 3 * 32 * 64
