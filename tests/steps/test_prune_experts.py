"""Experts go as wholes: those that tokens need least, for good, and the checkpoint opens with plain transformers."""

from pathlib import Path

import pytest
import torch
import transformers

from compressit import anatomy, weights
from compressit import model as models
from compressit.errors import RecipeError
from compressit.steps import load
from compressit.steps._calibration import batches
from tests.anatomy.conftest import EXPERTS

STEP = load("prune_experts")


def config(**fields):
    return STEP.Config(step="prune_experts", **fields)


def blocks(model):
    return [name for name, _ in model.blocks() if "experts" in anatomy.networks(model.module, name)]


def holder(model, block):
    return model.module.get_submodule(anatomy.members(model.module, block, "experts")[0])


def router(model, block):
    return model.module.get_submodule(f"{block}.mlp.gate")


@pytest.mark.parametrize("importance", ["contribution", "saliency", "use"])
@pytest.mark.parametrize("name", EXPERTS)
def test_those_that_stay_are_asked_as_if_the_others_had_no_chance(importance, name, opened, context, logits):
    """The same as routers that give those that go a logit of minus infinity."""
    whole, cut = opened(name), opened(name)
    given = context(cut)
    before = {block: router(cut, block).weight.detach().clone() for block in blocks(cut)}
    notes = STEP.run(cut, config(keep=3, importance=importance), given)
    assert notes["experts_before"] == 4
    assert notes["experts_after"] == 3
    assert 0 <= notes["choices_rerouted"] < 0.5
    for block, rows in before.items():
        left = router(cut, block).weight
        gone = [place for place, row in enumerate(rows) if not any(torch.equal(row, own) for own in left)]
        assert len(gone) == 1

        def chance(part, args, out, gone=gone):
            said = torch.nn.functional.linear(args[0].flatten(0, -2), part.weight)
            said[:, gone] = -torch.inf
            shares = said.float().softmax(-1)
            best, chosen = shares.topk(part.top_k, dim=-1)
            if getattr(part, "norm_topk_prob", True):
                best = best / best.sum(-1, keepdim=True)
            return said, best.to(said.dtype), chosen

        router(whole, block).register_forward_hook(chance)
    torch.testing.assert_close(logits(cut, given), logits(whole, given), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("importance", ["contribution", "saliency", "use"])
def test_the_choice_is_that_of_the_definition(importance, opened, context):
    """Against a loop over tokens, one expert after the other."""
    model = opened("mixtral")
    given = context(model, count=16)
    told = {block: [[] for _ in range(4)] for block in blocks(model)}

    def listen(block):
        def hook(part, args):
            for token, chosen, counts, live in zip(*args, mask.flatten().tolist(), strict=True):
                for expert, much in zip(chosen.tolist() if live else [], counts, strict=False):
                    gate, up = (part.gate_up_proj[expert] @ token).chunk(2)
                    answer = part.down_proj[expert] @ (torch.nn.functional.silu(gate) * up)
                    told[block][expert].append(float(much * answer.norm()))

        return hook

    hooks = [holder(model, block).register_forward_pre_hook(listen(block)) for block in told]
    with torch.no_grad():
        for inputs, _ in batches(model, 8, given, "check"):
            mask = inputs["attention_mask"]
            model.module(**inputs)
    for hook in hooks:
        hook.remove()
    wanted = {}
    for block, own in told.items():
        by = {"contribution": sum, "saliency": lambda each: sum(each) / max(1, len(each)), "use": len}
        worth = list(map(by[importance], own))
        best = sorted(sorted(range(4), key=lambda expert, worth=worth: -worth[expert])[:3])
        wanted[block] = router(model, block).weight.detach()[best].clone()
    STEP.run(model, config(keep=3, importance=importance), given)
    for block, rows in wanted.items():
        assert torch.equal(router(model, block).weight, rows)


@pytest.mark.parametrize("name", EXPERTS)
def test_plain_transformers_opens_it_and_the_plan_foresaw_it(name, opened, context, logits, tmp_path):
    model = opened(name)
    given = context(model)
    table = weights.read(Path(model.source))
    own = config(sparsity=0.25)
    STEP.run(model, own, given)
    model.save(tmp_path / "saved")
    assert STEP.claim(tmp_path / "saved", own) is None
    assert STEP.claim(tmp_path / "saved", config(keep=2)) is not None
    again = models.load(tmp_path / "saved", model.task)
    assert torch.equal(logits(again, given), logits(model, given))
    plain = transformers.AutoModelForSequenceClassification.from_pretrained(tmp_path / "saved").eval()
    batch = model.processor(given.calibration["text"][:4], padding=True, return_tensors="pt")
    batch.pop("token_type_ids", None)
    with torch.no_grad():
        torch.testing.assert_close(plain(**batch).logits, model.module(**batch).logits)
    foreseen = {tensor.name: tensor.shape for tensor in STEP.foresee(table, own).tensors}
    assert foreseen == {tensor.name: tensor.shape for tensor in weights.read(tmp_path / "saved").tensors}


def test_padding_counts_for_nothing(opened, context):
    model = opened("mixtral")
    given = context(model)
    found = []
    for size in (1, 32):
        found.append(STEP._measured(model, config(keep=3, batch_size=size), given, blocks(model), 4))
    for alone, together in zip(*found, strict=True):
        for block, value in alone.items():
            torch.testing.assert_close(value, together[block], rtol=1e-4, atol=1e-4)


def test_what_cannot_be_done_is_refused(opened, context):
    model = opened("mixtral")
    given = context(model)
    count, met = len(anatomy.experts(model.module, blocks(model)[0])), anatomy.met(model.module.config.to_dict())
    with pytest.raises(RecipeError, match="leave nothing to cut"):
        STEP.run(model, config(keep=count), given)
    with pytest.raises(RecipeError, match=f"each token meets {met}"):
        STEP.run(model, config(keep=met - 1), given)
    with pytest.raises(ValueError, match="one of `keep` and `sparsity`"):
        config(keep=2, sparsity=0.5)
