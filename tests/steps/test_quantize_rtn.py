"""quantize_rtn: what is stored, that plain transformers opens it, and what it refuses."""

import json
import subprocess
import sys

import pytest
import torch
from safetensors.torch import load_file

from compressit import checkpoint, weights
from compressit import model as models
from compressit.errors import RecipeError, StepError
from compressit.model.quantized import Scheme, config
from compressit.runtimes import torch as torch_runtime
from compressit.steps.quantize_rtn import Config, foresee, run
from tests import tiny
from tests.conftest import linears

SETTINGS = [
    {},
    {"bits": 4, "group_size": 8},
    {"bits": 4, "group_size": 16, "symmetric": False, "clip": "mse"},
    {"bits": 8, "symmetric": False},
    {"activations": "int8"},
    {"activations": "int8", "symmetric": False},
    {"exclude": ("*.1.*",)},
    {"activations": "int8", "exclude": ("*.1.*",)},
    {"activations": "int8", "scales": "static"},
    {"activations": "int8", "bits": 4, "group_size": 16},
    {"activations": "int4", "bits": 4, "scales": "static"},
]


def quantize(**fields):
    return Config(step="quantize_rtn", **fields)


@pytest.mark.parametrize("name", ["bert", "vit", "modernbert"])
@pytest.mark.parametrize("fields", SETTINGS, ids=str)
def test_what_is_saved_computes_what_was_in_memory(name, fields, opened, context, logits, tmp_path):
    model = opened(name)
    given = context(model)
    run(model, quantize(**fields), given)
    before = logits(model, given)
    model.save(tmp_path / "saved")
    assert torch.equal(logits(models.load(tmp_path / "saved", model.task), given), before)
    facts = torch_runtime.inspect(tmp_path / "saved")
    assert facts.dtypes[f"int{fields.get('bits', 8)}"] > 0


@pytest.mark.parametrize("fields", SETTINGS, ids=str)
def test_no_parameter_is_lost_or_counted_twice(fields, opened, context, family, tmp_path):
    model = opened("vit")
    run(model, quantize(**fields), context(model))
    model.save(tmp_path / "saved")
    facts = torch_runtime.inspect(tmp_path / "saved")
    assert facts.parameters == weights.read(family("vit")).parameters
    assert 0.8 * facts.parameters < facts.nonzero <= facts.parameters
    assert checkpoint.multiplications(tmp_path / "saved") == checkpoint.multiplications(family("vit"))


def test_the_integers_are_the_nearest_ones(opened, context, tmp_path):
    model = opened("bert")
    before = {name: layer.weight.detach().clone() for name, layer in linears(model).items()}
    run(model, quantize(activations="int8"), context(model))
    model.save(tmp_path / "saved")
    held = load_file(tmp_path / "saved" / "model.safetensors")
    for name, weight in before.items():
        stored, scale = held[f"{name}.weight"], held[f"{name}.weight_scale"]
        assert stored.dtype == torch.int8
        # Brute force: no other integer lies nearer.
        for other in (stored.float() - 1, stored.float() + 1):
            inside = (other >= -128) & (other <= 127)
            here, there = (stored.float() * scale - weight).abs(), (other * scale - weight).abs()
            assert bool((here <= there + 1e-7)[inside].all())


def test_activations_are_rounded_token_by_token(opened, context, logits):
    """A sentence's logits must not depend on its neighbours in the batch beyond what float32 does."""
    model = opened("bert")
    run(model, quantize(activations="int8"), context(model))
    some = ["the film was good", "dull and very poor music with a dreary plot of the actor and it was awful"]
    with torch.inference_mode():
        alone = model.module(**model.processor(some[0], return_tensors="pt")).logits
        together = model.module(**model.processor(some, padding=True, return_tensors="pt")).logits[:1]
    assert torch.allclose(alone, together, atol=1e-3)


def test_one_scale_for_all_tokens_is_that_of_the_largest_input(opened, context, tmp_path):
    model = opened("bert")
    given, seen = context(model, count=8), []
    layer = linears(model)["bert.encoder.layer.0.intermediate.dense"]
    hook = layer.register_forward_pre_hook(lambda part, inputs: seen.append(float(inputs[0].abs().max())))
    with torch.inference_mode():
        for text in given.calibration["text"]:
            model.module(**model.processor(text, return_tensors="pt"))
    hook.remove()
    run(model, quantize(activations="int8", scales="static"), given)
    model.save(tmp_path / "saved")
    held = load_file(tmp_path / "saved" / "model.safetensors")
    assert held["bert.encoder.layer.0.intermediate.dense.input_scale"].item() == pytest.approx(max(seen) / 127)
    assert quantize(activations="int8").needs() == frozenset() != quantize(activations="int8", scales="static").needs()


def test_more_bits_smaller_groups_and_the_search_lose_less(opened, context):
    def lost(**fields):
        model = opened("bert")
        return run(model, quantize(**fields), context(model))["relative_error"]

    assert lost() < lost(bits=4, group_size=8) < lost(bits=4, group_size=32)
    assert lost(bits=4, group_size=32, clip="mse") < lost(bits=4, group_size=32)
    assert lost(bits=4, group_size=32, symmetric=False) < lost(bits=4, group_size=32)


@pytest.mark.parametrize("fields", [{"bits": 1}, {"activations": "int4", "bits": 8}, {"scales": "static"},
                                    {"activations": "int4"}])  # fmt: skip
def test_settings_that_no_format_holds_are_errors(fields):
    with pytest.raises(ValueError, match=r"bits|activations"):
        quantize(**fields)


def test_a_group_size_that_does_not_divide_is_found_by_the_plan_and_by_the_step(opened, context, family):
    with pytest.raises(RecipeError, match="group_size 24 does not divide the 32 inputs"):
        foresee(weights.read(family("bert")), quantize(group_size=24))
    model = opened("bert")
    with pytest.raises(RecipeError, match="group_size 24 does not divide the 32 inputs"):
        run(model, quantize(group_size=24), context(model))


def test_zero_points_too_few_to_pack_are_refused(opened, context, family):
    few = {"bits": 4, "symmetric": False, "include": ("classifier",)}
    with pytest.raises(RecipeError, match="zero points of classifier, which has 2 outputs"):
        foresee(weights.read(family("bert")), quantize(**few))
    model = opened("bert")
    with pytest.raises(RecipeError, match="zero points of classifier"):
        run(model, quantize(**few), context(model))


FLOATS = {"exclude": ("*.experts.1.*",)}
OFFSET = {"bits": 4, "group_size": 16, "symmetric": False}


@pytest.mark.parametrize(
    ("name", "fields", "why"),
    [
        ("dinov2", {}, "can't open a dinov2 that is quantized"),
        ("dinov2-gated", {"bits": 4, "group_size": 8}, "can't open a dinov2 that is quantized"),
        ("mixtral", OFFSET, "can't open experts with zero points"),
        ("mixtral", {"activations": "int8"}, "can't open experts whose activations are rounded"),
        ("mixtral", FLOATS, "can't open experts that aren't quantized .* as .*experts.1.w1"),
        ("mixtral", {"include": ("*.self_attn.*",)}, "can't open experts that aren't quantized"),
    ],
    ids=str,
)
def test_what_transformers_could_not_open_again_is_refused(name, fields, why, opened, context, family):
    with pytest.raises(RecipeError, match=why):
        foresee(weights.read(family(name)), quantize(**fields))
    model = opened(name)
    with pytest.raises(RecipeError, match=why):
        run(model, quantize(**fields), context(model))


@pytest.mark.parametrize(
    ("name", "error", "why"), [("dinov2", ValueError, "one to many"), ("mixtral", RuntimeError, "conversion")]
)
def test_transformers_still_can_not_open_them(name, error, why, tmp_path):
    """Should this fail, its readers have learnt it, and the refusal above may go."""
    module = tiny.build(name)
    module.save_pretrained(tmp_path)
    file = tmp_path / "config.json"
    described = json.loads(file.read_text())
    left = [part for part, _ in module.named_modules()]
    file.write_text(json.dumps({**described, "quantization_config": config({Scheme(8): ["Linear"]}, left)}))
    with pytest.raises(error, match=why):
        type(module).from_pretrained(tmp_path)


def test_weights_that_are_not_finite_are_an_error(opened, context):
    model = opened("bert")
    next(iter(linears(model).values())).weight.data[0, 0] = float("nan")
    with pytest.raises(StepError, match="not finite"):
        run(model, quantize(), context(model))


PLAIN = """
import sys
class Block:
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] == "compressit":
            raise ImportError(name)
sys.meta_path.insert(0, Block())
import json, torch, transformers
folder, batch = sys.argv[1], json.loads(sys.argv[2])
model = transformers.AutoModelForSequenceClassification.from_pretrained(folder).eval()
tokens = transformers.AutoTokenizer.from_pretrained(folder)(batch, padding=True, return_tensors="pt")
with torch.inference_mode():
    print(json.dumps(model(**tokens).logits.tolist()))
"""


@pytest.mark.parametrize("fields", [{"bits": 4, "group_size": 8, "symmetric": False}, {"activations": "int8"}], ids=str)
def test_plain_transformers_opens_it_where_compressit_is_not(fields, opened, context, tmp_path):
    model = opened("bert")
    run(model, quantize(**fields), context(model))
    texts = ["the film was good", "dull and very poor music with a dreary plot"]
    with torch.inference_mode():
        said = model.module(**model.processor(texts, padding=True, return_tensors="pt")).logits
    model.save(tmp_path / "saved")
    done = subprocess.run(
        [sys.executable, "-c", PLAIN, tmp_path / "saved", json.dumps(texts)], capture_output=True, text=True, check=True
    )
    assert torch.allclose(torch.tensor(json.loads(done.stdout)), said, atol=1e-6)
