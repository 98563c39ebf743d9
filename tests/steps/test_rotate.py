"""rotate: the model says what it said, no channel stands out, and what can't be turned is refused."""

import pytest
import torch
import transformers

from compressit import model as models
from compressit import weights
from compressit.errors import RecipeError, StepError
from compressit.progress import Silent
from compressit.steps import Fact, StepContext, load
from tests import tiny

TASK = "text-generation"
STEP = load("rotate")
TURNED = ["llama", "mistral", "qwen2", "qwen3", "phi3", "gemma", "mixtral", "qwen2_moe"]


def writer(name, folder, tied):
    """A tiny language model of a family, no norm and no bias of which does nothing."""
    config = tiny.build(name).config
    config.tie_word_embeddings = tied
    torch.manual_seed(0)
    module = transformers.AutoModelForCausalLM.from_config(config).eval()
    for parameter in module.parameters():
        if parameter.dim() == 1:
            torch.nn.init.uniform_(parameter, 0.5, 1.5)
        else:
            torch.nn.init.normal_(parameter, std=0.15)
    # One channel stands out.
    with torch.no_grad():
        module.get_input_embeddings().weight[:, 3] *= 30
    module.save_pretrained(folder)
    tiny.processor(name).save_pretrained(folder)
    return models.load(folder, TASK)


def given(tmp_path, seed=0):
    return StepContext(None, None, None, "cpu", seed, Silent(), tmp_path / "scratch")


def logits(model):
    inputs = model.processor("the film was good and the music awful", return_tensors="pt")
    with torch.inference_mode():
        return model.module(input_ids=inputs["input_ids"]).logits


def flowing(model):
    """How much the largest channel of what flows into the first block stands out."""
    seen = []
    hook = model.blocks()[0][1].register_forward_pre_hook(lambda part, args: seen.append(args[0].detach()))
    logits(model)
    hook.remove()
    sizes = seen[0].flatten(0, -2).square().mean(0).sqrt()
    return float(sizes.max() / sizes.square().mean().sqrt())


@pytest.mark.parametrize("tied", [False, True], ids=["apart", "tied"])
@pytest.mark.parametrize("name", TURNED)
def test_it_says_what_it_said_in_memory_and_opened_by_plain_transformers(name, tied, tmp_path):
    model = writer(name, tmp_path / "model", tied)
    config = STEP.Config(step="rotate")
    assert (STEP.claim(tmp_path / "model", config) is None) == (not tied)
    before, out = logits(model), flowing(model)
    shapes = weights.read(tmp_path / "model")
    held = {key: tensor.clone() for key, tensor in model.module.state_dict().items()}
    notes = STEP.run(model, config, given(tmp_path))
    assert (notes["channels"], notes["attentions"], notes["hadamard"]) == (32, 4, True)
    assert notes["untied"] == tied
    after = logits(model)
    assert torch.allclose(after, before, atol=1e-5 * float(before.abs().max()), rtol=0)
    state = model.module.state_dict()
    offset = float(name == "gemma")
    channels = [
        key for key in state if key.endswith("norm.weight") and not key.endswith(("q_norm.weight", "k_norm.weight"))
    ]
    assert all(bool((state[key] == 1 - offset).all()) for key in channels), "norms have nothing left to say"
    assert len(channels) == 9
    kept = [key for key, tensor in model.module.state_dict().items() if torch.equal(tensor, held[key])]
    assert all("_norm." in key or key.endswith(("q_proj.bias", "k_proj.bias")) for key in kept), kept
    assert flowing(model) < out / 2
    model.save(tmp_path / "saved")
    assert STEP.claim(tmp_path / "saved", config) is None
    model.module = transformers.AutoModelForCausalLM.from_pretrained(tmp_path / "saved").eval()
    assert torch.equal(logits(model), after)
    assert STEP.foresee(shapes, config).bytes == weights.read(tmp_path / "saved").bytes


def test_the_same_seed_gives_the_same_bytes_and_another_others(tmp_path):
    found = []
    for number, seed in enumerate((0, 0, 1)):
        model = writer("llama", tmp_path / f"model-{number}", True)
        STEP.run(model, STEP.Config(step="rotate"), given(tmp_path, seed))
        model.save(tmp_path / f"saved-{number}")
        found.append((tmp_path / f"saved-{number}" / "model.safetensors").read_bytes())
    assert found[0] == found[1] != found[2]


def test_values_may_be_left_as_they_are(tmp_path):
    model = writer("qwen2", tmp_path / "model", False)
    bias, before = model.module.model.layers[0].self_attn.v_proj.bias.clone(), logits(model)
    notes = STEP.run(model, STEP.Config(step="rotate", values=False), given(tmp_path))
    assert notes["attentions"] == 0
    assert torch.equal(model.module.model.layers[0].self_attn.v_proj.bias, bias)
    assert torch.allclose(logits(model), before, atol=1e-5 * float(before.abs().max()), rtol=0)


@pytest.mark.parametrize(
    ("name", "why"),
    [("gemma2", "gives what blocks add up"), ("opt", "subtract a mean"), ("gpt_neox", "subtract a mean")],
)
def test_what_would_say_something_else_is_refused(name, why, tmp_path):
    model = writer(name, tmp_path / "model", False)
    with pytest.raises(StepError, match=why):
        STEP.run(model, STEP.Config(step="rotate"), given(tmp_path))
    if name != "gemma2":
        with pytest.raises(RecipeError, match=why):
            STEP.foresee(weights.read(tmp_path / "model"), STEP.Config(step="rotate"))


def test_it_comes_before_what_it_would_undo(opened, context):
    config = STEP.Config(step="rotate")
    assert not {Fact.SPARSITY, Fact.QUANTIZATION, Fact.FACTORS, Fact.RANGES} & config.keeps
    with pytest.raises(StepError, match="text-classification"):
        STEP.run(opened("bert"), config, context(opened("bert"), count=4))


def test_rounding_loses_less_where_a_channel_stood_out(tmp_path):
    step, lost = load("quantize_rtn"), {}
    for name in ("plain", "turned"):
        model = writer("llama", tmp_path / name, False)
        before = logits(model)
        if name == "turned":
            STEP.run(model, STEP.Config(step="rotate"), given(tmp_path))
        step.run(model, step.Config(step="quantize_rtn", bits=4, activations="int4"), given(tmp_path / name))
        model.save(tmp_path / f"{name}-saved")
        assert STEP.claim(tmp_path / f"{name}-saved", STEP.Config(step="rotate")) is None
        lost[name] = float((logits(model) - before).square().mean())
    assert lost["turned"] < lost["plain"]
