"""Steps on models of sounds, where these are unlike those of texts: padding, and WavLM's position biases."""

import pytest
import torch

from compressit import model as models
from compressit import tasks
from compressit.errors import RecipeError
from compressit.steps import load
from compressit.steps._calibration import batches, real

# What torch says of how transformers calls it.
pytestmark = pytest.mark.filterwarnings("ignore:Support for mismatched key_padding_mask")


def done(name, model, context, **fields):
    module = load(name)
    return module.run(model, module.Config(step=name, **fields), context)


def test_padding_is_no_position_of_a_block(opened, context):
    model = opened("wav2vec2-stable")
    inputs, _ = next(batches(model, 16, context(model), "importance"))
    mask = real(model, inputs, "wav2vec2.encoder.layers.0")
    with torch.no_grad():
        flows = model.module.wav2vec2(**inputs).last_hidden_state
    assert mask.shape == flows.shape[:2]
    samples = inputs["attention_mask"].sum(1)
    assert len(samples.unique()) > 1
    assert (mask.sum(1) == model.module._get_feat_extract_output_lengths(samples)).all()
    assert tasks.positions("audio-classification", model.module, {"input_values": inputs["input_values"]}) is None


def test_the_importance_of_a_unit_is_that_of_sounds_alone(opened, context):
    model = opened("wav2vec2-stable")
    given = context(model, count=12)
    kept = []
    for size in (1, 12):
        model = opened("wav2vec2-stable")
        fields = {"sparsity": 0.5, "importance": "activation", "refit": False, "batch_size": size}
        done("prune_ffn", model, given, **fields)
        kept.append({name: tensor for name, tensor in model.module.state_dict().items() if "intermediate" in name})
    assert all(torch.equal(tensor, kept[1][name]) for name, tensor in kept[0].items())


def test_whichever_block_comes_first_in_wavlm_has_the_position_biases(opened, context, logits, tmp_path):
    model = opened("wavlm")
    given = context(model, count=12)
    biases = model.module.wavlm.encoder.layers[0].attention.rel_attn_embed.weight.clone()
    done("drop_layers", model, given, keep=(2, 3))
    assert torch.equal(model.module.wavlm.encoder.layers[0].attention.rel_attn_embed.weight, biases)
    done("quantize_rtn", model, given, bits=8)
    assert all(".feed_forward." in name for name in model.quantized)
    before = logits(model, given)
    model.save(tmp_path)
    assert torch.equal(logits(models.load(tmp_path, model.task), given), before)


def test_a_head_of_wavlm_stays_and_the_remedy_is_said(opened, context):
    model = opened("wavlm")
    with pytest.raises(RecipeError, match="each gates position biases") as refused:
        done("prune_heads", model, context(model, count=12), sparsity=0.5)
    assert refused.value.hint == "prune_ffn cuts neurons"
