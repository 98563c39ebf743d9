"""quantize_float: what is stored, that plain transformers opens it, and what it refuses."""

import json
import subprocess
import sys

import pytest
import torch
from safetensors.torch import load_file

from compressit import checkpoint, weights
from compressit import model as models
from compressit.errors import RecipeError
from compressit.runtimes import torch as torch_runtime
from compressit.steps.quantize_float import Config, claim, foresee, run
from tests import tiny
from tests.conftest import linears
from tests.steps.test_quantize_rtn import PLAIN

SETTINGS = [
    {"format": "fp8"},
    {"format": "fp8", "activations": "fp8"},
    {"format": "fp8", "activations": "fp8", "scales": "static"},
    {"format": "nvfp4"},
    {"format": "mxfp4"},
    {"format": "mxfp4", "exclude": ("*.1.*",)},
]


def quantize(**fields):
    return Config(step="quantize_float", **fields)


@pytest.mark.parametrize("name", ["bert", "llama", "vit"])
@pytest.mark.parametrize("fields", SETTINGS, ids=str)
def test_what_is_saved_computes_what_was_in_memory(name, fields, opened, context, logits, family, tmp_path):
    model = opened(name)
    given = context(model, count=16)
    original = logits(model, given)
    notes = run(model, quantize(**fields), given)
    before = logits(model, given)
    model.save(tmp_path / "saved")
    assert torch.equal(logits(models.load(tmp_path / "saved", model.task), given), before)
    assert 0 < notes["relative_error"] < (0.01 if fields["format"] == "fp8" else 0.03)
    assert 0 < float((before - original).square().mean()) < float(original.square().mean())
    facts = torch_runtime.inspect(tmp_path / "saved")
    assert facts.dtypes[fields["format"]] > 0
    assert facts.parameters == weights.read(family(name)).parameters
    # What the file says, read by code of our own, is what the module computes with.
    layers = linears(model)
    with checkpoint.matrices(tmp_path / "saved") as held:
        for layer, part in layers.items():
            assert torch.equal(held[layer]().values, part.weight.float()), layer


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
@pytest.mark.parametrize("activations", ["none", "fp8"])
def test_blocks_that_share_a_scale_are_those_of_compressed_tensors(activations, dtype, context, logits, tmp_path):
    from compressed_tensors.compressors import BaseCompressor
    from compressed_tensors.quantization import QuantizationScheme, preset_name_to_scheme

    # 64 outputs make keys and values: less than a block.
    tiny.build("llama", hidden_size=128, intermediate_size=256).save_pretrained(tmp_path / "wide")
    tiny.processor("llama").save_pretrained(tmp_path / "wide")
    model = models.load(tmp_path / "wide", tiny.task("llama"))
    models.cast(model.module, dtype)
    given, layers = context(model, count=8), linears(model)
    original = {name: part.weight.detach().float().clone() for name, part in layers.items()}
    config = quantize(format="fp8_block", activations=activations)
    assert run(model, config, given)["relative_error"] < 0.001
    before = logits(model, given)
    model.save(tmp_path / "saved")
    assert claim(tmp_path / "saved", config) is None
    again = models.load(tmp_path / "saved", model.task)
    assert again.module.dtype == dtype
    assert torch.equal(logits(again, given), before)
    said = json.loads((tmp_path / "saved" / "config.json").read_text())["quantization_config"]["config_groups"][
        "group_0"
    ]
    preset = preset_name_to_scheme("FP8_BLOCK", ["Linear"])
    scheme = QuantizationScheme.model_validate(said)
    assert (scheme.weights.strategy, scheme.weights.block_structure) == ("block", preset.weights.block_structure)
    if activations == "fp8":
        theirs = preset.input_activations
        assert (scheme.input_activations.strategy, scheme.input_activations.group_size) == ("group", theirs.group_size)
        assert scheme.input_activations.dynamic
    held = load_file(tmp_path / "saved" / "model.safetensors")
    reader = BaseCompressor.get_value_from_registry("float-quantized")
    for name, part in layers.items():
        stored = {leaf: held[f"{name}.{leaf}"] for leaf in ("weight", "weight_scale")}
        outputs, inputs = part.weight.shape
        assert stored["weight_scale"].shape == (-(-outputs // 128), inputs // 128)
        assert torch.equal(reader.decompress(stored, scheme)["weight"], part.weight)
        # Brute force: the largest weight of each block is the largest float.
        for row in range(0, outputs, 128):
            for column in range(0, inputs, 128):
                block = original[name][row : row + 128, column : column + 128]
                scale = float(stored["weight_scale"][row // 128, column // 128])
                assert scale == pytest.approx(float(block.abs().max()) / 448, rel=0.01)
    with checkpoint.matrices(tmp_path / "saved") as read:
        assert all(torch.equal(read[name]().values.to(dtype), part.weight) for name, part in layers.items())
    foreseen = foresee(weights.read(tmp_path / "wide"), config).bytes
    if dtype == torch.float32:
        assert foreseen == pytest.approx(weights.read(tmp_path / "saved").bytes, rel=0.02)


@pytest.mark.parametrize("fields", SETTINGS[2:5], ids=str)
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


@pytest.mark.parametrize("fields", SETTINGS, ids=str)
def test_weights_of_16_bits_read_back_the_same(fields, opened, context, logits, tmp_path):
    model = opened("llama")
    given = context(model, count=8)
    models.cast(model.module, torch.bfloat16)
    run(model, quantize(**fields), given)
    before = logits(model, given)
    model.save(tmp_path / "saved")
    again = models.load(tmp_path / "saved", model.task)
    assert again.module.dtype == torch.bfloat16
    assert torch.equal(logits(again, given), before)


def test_what_lies_on_disk(opened, context, tmp_path):
    model = opened("bert")
    run(model, quantize(format="nvfp4"), context(model))
    model.save(tmp_path / "saved")
    held = load_file(tmp_path / "saved" / "model.safetensors")
    name = "bert.encoder.layer.0.intermediate.dense"
    assert held[f"{name}.weight_packed"].dtype == torch.uint8
    assert held[f"{name}.weight_packed"].shape == (64, 16)
    assert held[f"{name}.weight_scale"].dtype == torch.float8_e4m3fn
    assert held[f"{name}.weight_global_scale"].shape == (1,)
    said = json.loads((tmp_path / "saved" / "config.json").read_text())["quantization_config"]
    assert said["format"] == "nvfp4-pack-quantized"


@pytest.mark.parametrize("fields", [{"format": "int9"}, {"format": "nvfp4", "activations": "fp8"},
                                    {"format": "fp8", "scales": "static"},
                                    {"format": "fp8_block", "activations": "fp8", "scales": "static"}])  # fmt: skip
def test_settings_that_no_format_holds_are_errors(fields):
    with pytest.raises(ValueError, match=r"format|activations"):
        quantize(**fields)


@pytest.mark.parametrize(
    ("name", "fields", "why"),
    [
        ("gpt2", {"format": "fp8"}, "keeps its weights transposed"),
        ("dinov2", {"format": "fp8"}, "can't open a dinov2 that is quantized"),
        ("mixtral", {"format": "nvfp4"}, "can't open experts in nvfp4"),
        ("mixtral", {"format": "fp8_block"}, "can't open experts in fp8_block"),
        ("bert", {"format": "fp8_block"}, "the 128 inputs that share a scale of fp8 do not divide the 32 inputs"),
        ("mixtral", {"format": "fp8", "activations": "fp8"}, "can't open experts whose activations are rounded"),
        ("qwen2_moe", {"format": "mxfp4", "include": ("*.shared_expert.down_proj",)}, "can't open experts"),
    ],
    ids=str,
)
def test_what_can_not_be_opened_again_is_refused(name, fields, why, opened, context, family):
    with pytest.raises(RecipeError, match=why):
        foresee(weights.read(family(name)), quantize(**fields))
    model = opened(name)
    with pytest.raises(RecipeError, match=why):
        run(model, quantize(**fields), context(model))


def test_inputs_that_no_group_divides_are_refused(family):
    table = weights.read(family("bert"))
    narrow = table.changed(
        type(each)(each.name, (each.shape[0], 24), each.bits) if each.name.endswith("query.weight") else each
        for each in table.tensors
    )
    with pytest.raises(RecipeError, match="the 32 inputs that share a scale of mxfp4 do not divide the 24 inputs"):
        foresee(narrow, quantize(format="mxfp4"))
