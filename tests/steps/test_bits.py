"""Layers of different bits: by rules, and under a budget that is spent where the answers feel it."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from compressit import checkpoint, data, plan, recipe, weights
from compressit import model as models
from compressit.errors import RecipeError
from compressit.progress import Silent
from compressit.steps import Need, StepContext, load
from tests import tiny
from tests.conftest import linears
from tests.steps.test_spread import TASK, loss, rows

STEPS = ["quantize_rtn", "quantize_gptq", "quantize_awq"]
DOWN = {"layers": ("*down_proj",), "bits": 8, "group_size": "channel"}
PLAIN = """
import sys
class Block:
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] == "compressit":
            raise ImportError(name)
sys.meta_path.insert(0, Block())
import json, torch, transformers
model = transformers.AutoModelForSequenceClassification.from_pretrained(sys.argv[1]).eval()
tokens = transformers.AutoTokenizer.from_pretrained(sys.argv[1])("the film was good", return_tensors="pt")
with torch.inference_mode():
    print(json.dumps(model(**tokens).logits.tolist()))
"""


def kinds(folder):
    return {stored.name.removesuffix(".weight"): stored.kind for stored in checkpoint.tensors(folder)}


def groups(folder):
    return json.loads((folder / "config.json").read_text())["quantization_config"]["config_groups"]


@pytest.mark.parametrize("name", STEPS)
def test_rules_hold_in_the_file_which_says_what_was_in_memory(name, opened, context, logits, tmp_path):
    step = load(name)
    config = step.Config(step=name, bits=4, group_size=16, rules=(DOWN, {"layers": ("*.0.mlp*",), "bits": 3}))
    model = opened("llama")
    given = context(model, count=16)
    notes = step.run(model, config, given)
    before = logits(model, given)
    model.save(tmp_path / "saved")
    assert (notes["layers_of_3_bits"], notes["layers_of_4_bits"], notes["layers_of_8_bits"]) == (2, 22, 4)
    held = kinds(tmp_path / "saved")
    assert held["model.layers.0.mlp.down_proj"] == "int8", "the first rule of two"
    assert held["model.layers.0.mlp.up_proj"] == "int3"
    assert held["model.layers.1.self_attn.q_proj"] == "int4"
    assert len(groups(tmp_path / "saved")) == 3
    again = models.load(tmp_path / "saved", model.task)
    assert torch.equal(logits(again, given), before)
    assert step.claim(tmp_path / "saved", config) is None
    with checkpoint.matrices(tmp_path / "saved") as read:
        for layer, part in linears(model).items():
            assert torch.equal(read[layer]().values, part.weight), layer
    on_disk = opened("llama", scratch=tmp_path / "weights")
    step.run(on_disk, config, context(on_disk, count=16))
    on_disk.save(tmp_path / "on-disk")
    assert kinds(tmp_path / "on-disk") == held
    assert groups(tmp_path / "on-disk") == groups(tmp_path / "saved")
    other = config.model_copy(update={"rules": (config.rules[0],)})
    assert "is int3, not int4" in step.claim(tmp_path / "saved", other)
    foreseen = step.foresee(weights.read(Path(model.source)), config)
    assert foreseen.bytes == pytest.approx(weights.read(tmp_path / "saved").bytes, rel=0.02)


def test_plain_transformers_opens_it_where_compressit_is_not(opened, context, tmp_path):
    model, step = opened("llama"), load("quantize_rtn")
    step.run(model, step.Config(step="quantize_rtn", bits=4, group_size=16, rules=(DOWN,)), context(model))
    with torch.inference_mode():
        said = model.module(**model.processor("the film was good", return_tensors="pt")).logits
    model.save(tmp_path / "saved")
    done = subprocess.run([sys.executable, "-c", PLAIN, tmp_path / "saved"], capture_output=True, text=True, check=True)
    assert torch.allclose(torch.tensor(json.loads(done.stdout)), said, atol=1e-6)


def test_experts_have_a_rule_for_all_of_them(opened, context, logits, tmp_path):
    step = load("quantize_rtn")
    model = opened("mixtral")
    given = context(model, count=16)
    config = step.Config(step="quantize_rtn", bits=8, rules=({"layers": ("*experts*",), "bits": 4, "group_size": 16},))
    step.run(model, config, given)
    before = logits(model, given)
    model.save(tmp_path / "saved")
    assert torch.equal(logits(models.load(tmp_path / "saved", model.task), given), before)
    assert step.claim(tmp_path / "saved", config) is None
    some = step.Config(step="quantize_rtn", rules=({"layers": ("*experts.0.*",), "bits": 4},))
    with pytest.raises(RecipeError, match="experts of different bits"):
        step.run(opened("mixtral"), some, given)


@pytest.mark.parametrize(
    ("name", "fields", "why"),
    [
        ("t5", {"rules": ({"layers": ("*.q",), "bits": 4},)}, "layers of different bits"),
        ("modernbert", {"average_bits": 4.5}, "layers of different bits"),
        ("llama", {"rules": ({"layers": ("*up_porj",), "bits": 4},)}, "matches no layer"),
        ("llama", {"rules": ({"layers": ("*up_proj",), "group_size": 7},)}, "does not divide"),
        ("llama", {"average_bits": 2.5, "group_size": 16}, "2 bits with their scales take 4.1"),
    ],
    ids=str,
)
def test_what_can_not_be_is_refused_by_plan_and_step(name, fields, why, opened, context, family):
    step = load("quantize_rtn")
    config = step.Config(step="quantize_rtn", **fields)
    with pytest.raises(RecipeError, match=why):
        step.foresee(weights.read(family(name)), config)
    with pytest.raises(RecipeError, match=why):
        step.run(opened(name), config, context(opened(name), count=4))


@pytest.mark.parametrize("name", [name for name in tiny.TEXTS if name in ("t5", "modernbert")])
def test_transformers_still_can_not_open_them(name, opened, tmp_path):
    """Should this fail, its reader has learnt it, and the refusal above may go."""
    from compressit.model.quantized import Scheme, config

    module = tiny.build(name)
    layers = [layer for layer, part in module.named_modules() if isinstance(part, torch.nn.Linear)]
    module.save_pretrained(tmp_path)
    file = tmp_path / "config.json"
    mixed = config({Scheme(8): layers[:4], Scheme(4): layers[4:]}, [])
    file.write_text(json.dumps({**json.loads(file.read_text()), "quantization_config": mixed}))
    with pytest.raises((AttributeError, RuntimeError)):
        type(module).from_pretrained(tmp_path)


@pytest.mark.parametrize(
    "fields",
    [{"average_bits": 4.5, "bits": 4}, {"average_bits": 4.5, "rules": (DOWN,)}, {"widths": (4, 8)},
     {"average_bits": 4.5, "widths": (8, 4)}, {"average_bits": 4.5, "symmetric": False},
     {"activations": "int8", "rules": (DOWN,)}, {"rules": ({"layers": ("*q_proj",)},)}],
    ids=str,
)  # fmt: skip
def test_what_says_bits_twice_is_no_config(fields):
    with pytest.raises(ValueError, match=r"bits|widths|rules"):
        load("quantize_rtn").Config(step="quantize_rtn", **fields)


def test_a_recipe_says_them_and_the_plan_foresees_the_size(storyteller, tmp_path):
    file = tmp_path / "mixed.yaml"
    file.write_text(
        f"name: mixed\ntask: text-generation\nmodel: {storyteller / 'model'}\n"
        f"dataset: {{path: {storyteller}, evaluation: test.txt}}\nsteps:\n  - step: quantize_gptq\n    bits: 4\n"
        "    group_size: 32\n    rules:\n      - {layers: ['*down_proj'], bits: 8}\n"
        "  - step: quantize_rtn\n    average_bits: 4.5\n"
    )
    with pytest.raises(RecipeError) as caught:
        plan.plan(recipe.load(file))
    assert "needs calibration" in str(caught.value)
    assert "would undo the quantization" in str(caught.value), "a second step does not add to a first one"


@pytest.fixture(scope="module")
def spent(storyteller, tmp_path_factory):
    """What each step makes of a model that has learned something, 3.75 bits a weight: (model, folder, notes)."""
    found = {}
    calibration = rows(storyteller, "train.txt[:60]")
    for name in STEPS:
        own = models.load(storyteller / "model", TASK)
        scratch = tmp_path_factory.mktemp("spent")
        step = load(name)
        config = step.Config(step=name, group_size=32, average_bits=4.75, widths=(2, 3, 4, 6))
        given = StepContext(None, calibration, None, "cpu", 0, Silent(), scratch / "scratch", max_length=32)
        notes = step.run(own, config, given)
        own.save(scratch / "saved")
        assert step.claim(scratch / "saved", config) is None
        assert step.claim(scratch / "saved", config.model_copy(update={"average_bits": 4.0})) is not None
        found[name] = own, scratch, notes
    return storyteller, found


def test_the_budget_is_kept_and_nearly_spent_by_what_the_files_hold(spent):
    for name, (_, scratch, _) in spent[1].items():
        saved = scratch / "saved"
        sizes, held = checkpoint.shapes(saved), kinds(saved)
        layers = [layer for layer, kind in held.items() if kind.startswith("int")]
        from safetensors import safe_open

        bits = 0
        for file in saved.glob("*.safetensors"):
            with safe_open(file, framework="pt") as opened:
                names = opened.keys()
                for key in names:
                    if key.rpartition(".")[2].startswith("weight_"):
                        tensor = opened.get_tensor(key)
                        bits += 8 * tensor.numel() * tensor.element_size()
        count = sum(sizes[f"{layer}.weight"][0] * sizes[f"{layer}.weight"][1] for layer in layers)
        assert 4.5 < bits / count <= 4.75, name
        assert checkpoint.average_bits(saved) == pytest.approx(bits / count)


def test_what_runtimes_lay_into_one_has_the_same_bits(spent):
    for _, scratch, notes in spent[1].values():
        held = kinds(scratch / "saved")
        for block in range(4):
            inside = {layer.rpartition(".")[2]: held[layer] for layer in held if f"layers.{block}." in layer}
            assert inside["q_proj"] == inside["k_proj"] == inside["v_proj"]
            assert inside["gate_proj"] == inside["up_proj"]
        assert sum(count for name, count in notes.items() if name.startswith("layers_of")) == notes["layers"]


def test_what_is_saved_computes_what_was_in_memory(spent):
    storyteller, found = spent
    for own, scratch, _ in found.values():
        again = models.load(scratch / "saved", TASK)
        for _, batch in data.batches(rows(storyteller, "test.txt[:16]"), again, 8, 32):
            batch.pop("labels")
            with torch.inference_mode():
                assert torch.equal(again.module(**batch).logits, own.module(**batch).logits)


def test_it_loses_less_than_an_even_choice_of_as_many_bits(spent, tmp_path):
    storyteller, found = spent
    step = load("quantize_rtn")
    even = models.load(storyteller / "model", TASK)
    given = StepContext(None, None, None, "cpu", 0, Silent(), tmp_path / "even", max_length=32)
    # One block of four at 3 bits, the others at 4: 3.75, and scales of 1.
    rules = ({"layers": ("*layers.0.*",), "bits": 3},)
    step.run(even, step.Config(step="quantize_rtn", bits=4, group_size=32, rules=rules), given)
    assert loss(storyteller, found["quantize_rtn"][0]) < loss(storyteller, even)


def test_a_killed_step_goes_on_with_the_bits_it_had(spent, opened, context):
    step = load("quantize_rtn")
    model = opened("llama")
    given = context(model, count=4)
    config = step.Config(step="quantize_rtn", average_bits=9, widths=(2, 8))
    given.scratch.mkdir(parents=True)
    (given.scratch / "bits.json").write_text(json.dumps(dict.fromkeys(model.matrices(), 2)))
    assert "layers_of_8_bits" not in step.run(model, config, given)
    assert {each.scheme.bits for each in model.quantized.values()} == {2}


def test_its_documentation_says_what_a_rule_holds():
    from compressit.cli.catalog import describe

    assert "rules: list of {layers, bits, group_size}" in describe("steps", load("quantize_gptq"))


def test_it_asks_for_calibration_data_and_keeps_the_model_in_memory():
    for name in STEPS:
        config = load(name).Config(step=name, average_bits=4.5)
        assert config.needs() == {Need.CALIBRATION}
        assert not config.streaming()
        assert load(name).Config(step=name).streaming()
