"""Folding scales into blocks: no model computes anything else, and what is said to give channels does give them."""

import pytest
import torch

from compressit import anatomy
from compressit.errors import StepError
from tests import tiny

NORMED = {"modernbert", "llama", "mistral", "qwen2", "qwen3", "gemma", "gemma2", "gemma3_text", "phi3", "mixtral",
          "qwen2_moe", "qwen3_moe", "gpt2", "opt", "gpt_neox", "t5", "t5-gated", "vit", "deit", "beit", "beit-shared",
          "dinov2", "dinov2-gated"}  # fmt: skip
GATED = {"modernbert", "llama", "mistral", "qwen2", "qwen3", "gemma", "gemma2", "gemma3_text", "phi3", "mixtral",
         "qwen2_moe", "qwen3_moe", "t5-gated", "dinov2-gated"}  # fmt: skip


def kinds(name):
    """What of a family can be folded into."""
    return {"values"} | ({"norms"} if name in NORMED else set()) | ({"neurons"} if name in GATED else set())


def said(module, name):
    torch.manual_seed(1)
    if name in tiny.PICTURES:
        given = {"pixel_values": torch.randn(2, 3, 8, 8)}
    else:
        given = {"input_ids": torch.randint(4, 20, (2, 12))}
        given["input_ids"][:, -1] = module.config.eos_token_id or 3
    with torch.no_grad():
        return module(**given).logits


def scales(fold, tensors):
    """Powers of two, by which no number is rounded."""
    side = fold.gives[0]
    tensor = tensors[side.tensor] if side.expert is None else tensors[side.tensor][side.expert]
    count = tensor.shape[side.axis] if side.places is None else len(side.places)
    return 2.0 ** torch.randint(-2, 3, (count,))


@pytest.mark.parametrize("name", [*tiny.TEXTS, *tiny.PICTURES])
def test_a_model_says_what_it_said(name):
    module = tiny.build(name)
    for norm in (part for part in module.modules() if "Norm" in type(part).__name__ and hasattr(part, "weight")):
        torch.nn.init.normal_(norm.weight, 0.5, 0.3)
        if getattr(norm, "bias", None) is not None:
            torch.nn.init.normal_(norm.bias)
    before = said(module, name)
    tensors = {key: tensor.data for key, tensor in module.state_dict(keep_vars=True).items()}
    found = [fold for block, _ in anatomy.blocks(module) for fold in anatomy.folds(module, block)]
    assert {fold.kind for fold in found} == kinds(name)
    torch.manual_seed(2)
    taken = [(fold, scales(fold, tensors)) for fold in found]
    for fold, scale in taken:
        fold.apply(tensors, scale)
    assert torch.allclose(said(module, name), before, rtol=1e-4, atol=1e-5)
    # Half of it alone is seen: the places are alive.
    for kind in sorted(kinds(name)):
        for fold, scale in (pair for pair in taken if pair[0].kind == kind):
            anatomy.Fold(fold.kind, fold.gives, (), fold.heads).apply(tensors, scale)
        changed = said(module, name)
        assert not torch.allclose(changed, before, rtol=1e-4, atol=1e-5), kind
        before = changed


def test_norms_behind_what_they_add_to_are_not_folded_into():
    module = tiny.build("opt", do_layer_norm_before=False)
    assert {fold.kind for block, _ in anatomy.blocks(module) for fold in anatomy.folds(module, block)} == {"values"}


def test_tied_tensors_are_refused():
    module = tiny.build("llama")
    layers = module.model.layers
    layers[1].self_attn.q_proj.weight = layers[0].self_attn.q_proj.weight
    with pytest.raises(StepError, match=r"q_proj\.weight is tied to another tensor"):
        anatomy.folds(module, "model.layers.0")


def test_layers_that_are_two_are_refused():
    module = tiny.build("llama")
    name = "model.layers.0.mlp.up_proj"
    anatomy.factoring.factor(module, name, torch.zeros(4, 32), torch.zeros(60, 4), torch.arange(64))
    with pytest.raises(StepError, match="up_proj has no weights of its own"):
        anatomy.folds(module, "model.layers.0")


def test_an_unknown_architecture_is_refused():
    module = tiny.build("llama")
    module.config.model_type = "nobody"
    with pytest.raises(StepError, match="'nobody' is not known"):
        anatomy.folds(module, "model.layers.0")
