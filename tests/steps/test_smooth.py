"""smooth: nothing that a model says changes, and what is rounded afterwards loses less."""

import pytest
import torch

from compressit import model as models
from compressit.errors import RecipeError, StepError
from compressit.steps import load
from tests.conftest import linears

LOUD, TIMES = 3, 200.0


def take(name, model, context, **fields):
    step = load(name)
    return step.run(model, step.Config(step=name, **fields), context)


def with_a_loud_channel(model):
    """Have one channel of each norm give far more than the others, and what reads it make up for that."""
    for layer in model.module.model.layers:
        with torch.no_grad():
            for norm, readers in (
                (layer.input_layernorm, ("q_proj", "k_proj", "v_proj")),
                (layer.post_attention_layernorm, ("gate_proj", "up_proj")),
            ):
                norm.weight[LOUD] *= TIMES
                for name, part in layer.named_modules():
                    if name.endswith(readers):
                        part.weight[:, LOUD] /= TIMES
    return model


def test_a_loud_channel_costs_less_after_it(opened, context, logits):
    original = opened("llama")
    given = context(original)
    said = logits(original, given)

    def lost(*, first):
        model = with_a_loud_channel(opened("llama"))
        notes = take("smooth", model, context(model)) if first else {}
        smoothed = logits(model, given)
        assert torch.allclose(smoothed, said, rtol=1e-3, atol=1e-4)
        take("quantize_rtn", model, context(model), activations="int8")
        return float((logits(model, given) - said).square().mean()), notes

    (plain, _), (after, notes) = lost(first=False), lost(first=True)
    assert after < plain / 20
    assert notes == {"scaled": len(linears(original)), "layers": len(linears(original))}


def test_only_what_is_asked_for_is_folded_into(opened, context):
    for into, changed in (("norms", "layernorm"), ("values", "v_proj"), ("neurons", "up_proj")):
        model = opened("llama")
        before = {name: tensor.clone() for name, tensor in model.module.state_dict().items()}
        take("smooth", model, context(model), into=(into,))
        after = model.module.state_dict()
        gives = [name for name in before if not torch.equal(after[name], before[name]) and changed in name]
        assert gives
        assert ("layernorm" in changed) == any("layernorm" in n for n in before if not torch.equal(after[n], before[n]))


def test_what_reads_a_norm_but_was_not_chosen_is_made_up_for(opened, context, logits):
    model = opened("mixtral")
    given = context(model)
    said = logits(model, given)
    notes = take("smooth", model, context(model), include=("*.q_proj", "*.experts.1.*"))
    assert torch.allclose(logits(model, given), said, rtol=1e-3, atol=1e-4)
    assert notes["scaled"] == notes["layers"] == 4 + 4 * 3


def test_what_can_not_be_scaled_is_an_error(opened, context):
    model = opened("bert")
    with pytest.raises(RecipeError, match="gives the chosen layers of bert"):
        take("smooth", model, context(model), into=("norms",))
    with pytest.raises(RecipeError, match="classifier lies outside the blocks"):
        take("smooth", model, context(model), include=("classifier", "*.output.dense"))
    take("quantize_rtn", model, context(model))
    with pytest.raises(StepError, match="smooth would undo the quantization"):
        take("smooth", model, context(model))


def test_zeros_stay_and_files_open_anywhere(opened, context, tmp_path):
    model = opened("qwen2")
    take("prune_magnitude", model, context(model), sparsity=0.5)
    zeros = {name: layer.weight == 0 for name, layer in linears(model).items()}
    take("smooth", model, context(model))
    model.save(tmp_path / "saved")
    again = linears(models.load(tmp_path / "saved", model.task))
    assert all(torch.equal(again[name].weight == 0, mask) for name, mask in zeros.items())
