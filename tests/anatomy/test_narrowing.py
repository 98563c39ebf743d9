"""Channels that are silent can be cut out, in every family, and the rest goes on as before."""

import pytest
import torch

from compressit import anatomy
from compressit import model as models
from compressit.errors import StepError
from tests import tiny
from tests.anatomy.conftest import all_but, logits

FAMILIES = [*tiny.TEXTS, *tiny.PICTURES]
GONE = {1, 2, 7, 11, 17, 20, 26, 31}
ROOT_MEAN_SQUARE = ["llama", "mistral", "qwen2", "qwen3", "gemma", "gemma2", "gemma3_text", "phi3", "mixtral", "t5",
                    "t5-gated"]  # fmt: skip


def silence(module, gone):
    """Zero some channels wherever they lie."""
    with torch.no_grad():
        for name, axes in anatomy.channels(module).axes.items():
            tensor = module.state_dict(keep_vars=True)[name]
            for axis in axes:
                # A norm that adds one to its weights is silent at what it is given, not at its weights.
                if tensor.dim() > 1:
                    tensor.index_fill_(axis, torch.tensor(sorted(gone)), 0)


@pytest.mark.parametrize("name", ROOT_MEAN_SQUARE)
def test_silent_channels_can_go(name, built):
    module = built(name).module
    untouched = logits(module)
    silence(module, GONE)
    before = logits(module)
    assert not torch.allclose(before, untouched, atol=1e-3)
    anatomy.cut_width(module, all_but(32, GONE))
    assert anatomy.channels(module).count == 24
    torch.testing.assert_close(logits(module), before, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("name", FAMILIES)
def test_a_narrow_model_is_what_its_tensors_say(name, built, tmp_path):
    model = built(name)
    heads = [anatomy.heads(model.module, block) for block, _ in model.blocks()]
    anatomy.cut_width(model.module, all_but(32, GONE))
    assert heads == [anatomy.heads(model.module, block) for block, _ in model.blocks()]
    anatomy.settle(model.module)
    before = logits(model.module)
    assert bool(torch.isfinite(before).all())
    model.save(tmp_path)
    again = models.load(tmp_path, model.task)
    torch.testing.assert_close(logits(again.module), before)
    assert anatomy.channels(again.module).count == 24


LANGUAGE = {
    "llama": {"tie_word_embeddings": True},
    "gemma": {"tie_word_embeddings": True},
    "gemma3_text": {"tie_word_embeddings": True},
    "t5": {"tie_word_embeddings": True},
}


@pytest.mark.parametrize("name", LANGUAGE)
def test_tied_embeddings_stay_tied_and_scaled(name):
    import transformers

    torch.manual_seed(0)
    plain = tiny.build(name, **LANGUAGE[name])
    kind = {"llama": "LlamaForCausalLM", "gemma": "GemmaForCausalLM", "gemma3_text": "Gemma3ForCausalLM",
            "t5": "T5ForConditionalGeneration"}[name]  # fmt: skip
    module = getattr(transformers, kind)(plain.config).eval()
    silence(module, GONE)
    ids = torch.tensor([[2, 5, 6, 7, 8, 9, 3]])
    more = {"decoder_input_ids": ids} if name == "t5" else {}

    def said(module):
        with torch.inference_mode():
            return module(input_ids=ids, **more).logits

    before = said(module)
    anatomy.cut_width(module, all_but(32, GONE))
    assert module.get_output_embeddings().weight is module.get_input_embeddings().weight
    torch.testing.assert_close(said(module), before, atol=1e-5, rtol=1e-5)
    anatomy.settle(module)
    again = type(module)(type(module.config).from_dict(module.config.to_dict())).eval()
    again.load_state_dict(module.state_dict())
    torch.testing.assert_close(said(again), before, atol=1e-5, rtol=1e-5)


def test_a_narrow_decoder_and_one_of_fewer_heads_too_open_in_plain_transformers(built):
    for name, heads in (("llama", False), ("bert", True)):
        module = built(name).module
        anatomy.cut_width(module, range(24))
        if heads:
            for block, _ in anatomy.blocks(module):
                anatomy.cut_heads(module, block, range(3))
        assert anatomy.settle(module), name
        assert module.config.hidden_size == 24


def test_channels_that_cannot_be_told_from_heads_are_refused(built):
    import transformers

    module = transformers.OlmoeForCausalLM(transformers.OlmoeConfig(**tiny.EXPERTS, vocab_size=31))
    with pytest.raises(StepError, match="can't be told from its heads") as raised:
        anatomy.cut_width(module, range(24))
    assert raised.value.hint == "add an Attention to compressit/anatomy/families/olmoe.py"
    with pytest.raises(StepError, match="there are 32 channels of bert"):
        anatomy.cut_width(built("bert").module, [32])
