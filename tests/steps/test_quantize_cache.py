"""quantize_cache: scales of keys and values, what they cost, and what becomes of them in files."""

import json

import pytest
import torch
import transformers
from compressed_tensors.quantization import QuantizationArgs
from compressed_tensors.quantization.lifecycle.forward import fake_quantize
from compressed_tensors.quantization.lifecycle.initialize import is_cached_attention_module
from safetensors.torch import load_file

from compressit import checkpoint
from compressit import model as models
from compressit.data.walking import samples
from compressit.errors import StepError
from compressit.model import caches, mapped, snapshot
from compressit.progress import Silent
from compressit.steps import Fact, StepContext, load
from tests.steps.test_spread import TASK, rows

STEP = load("quantize_cache")
CONFIG = STEP.Config(step="quantize_cache")


@pytest.fixture(scope="module")
def made(storyteller, tmp_path_factory):
    """A model with scales, alone and after its weights were quantized: (model, folder, notes)."""
    found = {}
    for name in ("alone", "quantized"):
        folder = tmp_path_factory.mktemp("cache")
        model = models.load(storyteller / "model", TASK)
        given = StepContext(None, rows(storyteller, "train.txt[:40]"), None, "cpu", 0, Silent(), folder / "s", 64)
        if name == "quantized":
            before = load("quantize_rtn")
            before.run(model, before.Config(step="quantize_rtn", average_bits=6, group_size=32), given)
        notes = STEP.run(model, CONFIG, given)
        model.save(folder / "saved")
        found[name] = model, folder, notes, given
    return found


def test_the_largest_key_and_value_become_the_largest_float(made, storyteller):
    model, folder, _, given = made["alone"]
    most = {}
    for text in given.calibration["text"]:
        inputs = model.processor(text, return_tensors="pt", truncation=True, max_length=64)
        argument = next(iter(caches.changing(model.module, lambda name, keys, values: (keys, values))))
        kept = transformers.DynamicCache(config=model.module.config)
        with torch.inference_mode():
            model.module(**inputs, **{argument: kept}, use_cache=True)
        for index, layer in enumerate(kept.layers):
            for leaf, tensor in (("k_scale", layer.keys), ("v_scale", layer.values)):
                name = f"model.layers.{index}.self_attn.{leaf}"
                most[name] = max(most.get(name, 0), float(tensor.abs().max()))
    held = load_file(folder / "saved" / "model.safetensors")
    scales = {name: tensor for name, tensor in held.items() if name.endswith(("k_scale", "v_scale"))}
    assert scales.keys() == most.keys()
    assert all(tensor.shape == (1,) for tensor in scales.values())
    for name, largest in most.items():
        # Texts are packed into windows for the step, so that some positions differ.
        assert float(scales[name]) == pytest.approx(largest / 448, rel=0.25), name


def test_rounding_is_that_of_compressed_tensors():
    torch.manual_seed(0)
    args = QuantizationArgs.model_validate(caches.scheme())
    keys = torch.randn(2, 3, 50, 8) * 4
    for scale in (float(keys.abs().max()) / 448, 0.001):
        assert torch.equal(caches.nearest(keys, scale), fake_quantize(keys, torch.tensor([scale]), None, args))


def test_what_is_noted_is_what_rounding_costs(made):
    for _, _, notes, _ in made.values():
        assert notes["layers"] == 4
        assert 0 < notes["kl_divergence"] < 0.01


def test_the_file_says_it_and_plain_transformers_opens_it(made, tmp_path):
    for name, (model, folder, _, _) in made.items():
        assert STEP.claim(folder / "saved", CONFIG) is None
        said = json.loads((folder / "saved" / "config.json").read_text())["quantization_config"]
        assert said["kv_cache_scheme"]["num_bits"] == 8
        assert bool(said["config_groups"]) == (name == "quantized")
        before = load("quantize_rtn")
        if name == "quantized":
            # A run looks at the file for what each of its steps has promised.
            assert 5 < checkpoint.average_bits(folder / "saved") <= 6
            assert before.claim(folder / "saved", before.Config(step="quantize_rtn", average_bits=6)) is None
        again = transformers.AutoModelForCausalLM.from_pretrained(folder / "saved").eval()
        on_disk = mapped.load(folder / "saved", TASK, tmp_path / name).module
        inputs = model.processor("Once there was", return_tensors="pt")
        # compressed-tensors rounds where it finds attentions by the names of their arguments.
        rounds = any(is_cached_attention_module(part) for part in model.module.modules())
        more = caches.changing(model.module, caches.rounded(model.caches)) if rounds else {}
        with torch.inference_mode():
            expected = model.module(**inputs, **more).logits
            assert torch.equal(again(**inputs).logits, expected)
            assert torch.equal(on_disk(**inputs).logits, expected)


def test_a_reader_that_rounds_would_move_answers_as_far_as_was_noted(made):
    for model, folder, notes, given in made.values():
        said = json.loads((folder / "saved" / "config.json").read_text())["quantization_config"]
        args = QuantizationArgs.model_validate(said["kv_cache_scheme"])
        held = load_file(folder / "saved" / "model.safetensors")
        most = {}

        def see(name, keys, values, most=most):
            for leaf, tensor in (("k_scale", keys), ("v_scale", values)):
                most[f"{name}.{leaf}"] = max(most.get(f"{name}.{leaf}", 0), float(tensor.abs().max()))
            return keys, values

        def fake(name, keys, values, held=held, args=args):
            return [
                fake_quantize(x, held[f"{name}.{leaf}"], None, args)
                for leaf, x in (("k_scale", keys), ("v_scale", values))
            ]

        moved = count = 0
        for place, batch in enumerate(samples(given.calibration, model, given.max_length)):
            with torch.inference_mode():
                before = model.module(**batch, **caches.changing(model.module, see)).logits.log_softmax(-1)
                after = model.module(**batch, **caches.changing(model.module, fake)).logits.log_softmax(-1)
            if place < CONFIG.judged:
                moved += float((before.exp() * (before - after)).sum())
                count += before.shape[0] * before.shape[1]
        assert {name: float(held[name]) for name in most} == pytest.approx(
            {k: v / 448 for k, v in most.items()}, rel=1e-5
        )
        assert notes["kl_divergence"] == pytest.approx(moved / count, rel=0.02)


def test_the_notes_say_whether_the_installed_reader_rounds(made):
    for model, folder, notes, _ in made.values():
        again = transformers.AutoModelForCausalLM.from_pretrained(folder / "saved").eval()
        inputs = model.processor("Once there was", return_tensors="pt")
        with torch.inference_mode():
            unrounded = torch.equal(again(**inputs).logits, model.module(**inputs).logits)
        assert ("the figures are without the rounding" in notes.get("caveat", "")) == unrounded


def test_scales_outlive_being_kept_and_opened(made, storyteller, tmp_path):
    for name, (model, folder, _, _) in made.items():
        assert models.load(folder / "saved", TASK).caches.keys() == model.caches.keys()
        (tmp_path / name).mkdir()
        snapshot.keep(model, tmp_path / name)
        again = snapshot.take_up(tmp_path / name, storyteller / "model", TASK)
        assert again.caches.keys() == model.caches.keys()
        again.save(tmp_path / f"{name}-saved")
        first, second = (
            load_file(place / "model.safetensors") for place in (folder / "saved", tmp_path / f"{name}-saved")
        )
        assert first.keys() == second.keys()
        assert all(torch.equal(tensor, second[key]) for key, tensor in first.items())
        assert STEP.claim(tmp_path / f"{name}-saved", CONFIG) is None


def test_it_comes_after_a_quantization_of_weights_and_for_language_models_alone(storyteller, tmp_path, opened, context):
    assert {Fact.QUANTIZATION, Fact.CACHE} <= CONFIG.keeps
    assert Fact.CACHE in CONFIG.made()
    assert not {Fact.QUANTIZATION, Fact.CACHE} & load("quantize_rtn").Config(step="quantize_rtn").keeps
    model = opened("bert")
    with pytest.raises(StepError, match="text-classification"):
        STEP.run(model, CONFIG, context(model, count=4))
    assert STEP.claim(storyteller / "model", CONFIG) is not None
