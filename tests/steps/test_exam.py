"""The exam that every step sits: its docstring's example, on tiny models of each family."""

import hashlib
import re
from dataclasses import replace
from pathlib import Path

import pytest
import torch
import yaml
from safetensors.torch import load_file

from compressit import anatomy, steps, weights
from compressit import model as models
from compressit.errors import RecipeError, StepError
from compressit.steps import Fact
from tests import tiny
from tests.conftest import linears

STREAMING = [name for name in steps.names() if steps.load(name).Config.streams]
FAMILIES = ["bert", "distilbert", "modernbert", "llama", "vit"]
STAGED = ["convnext", "resnet"]
SOUNDS = ["wav2vec2-stable"]
OTHER_TASKS = ["bert-tags", "bert-qa", "bert-pairs", "bert-mask", "t5-writes", "bart-writes"]
# Whether heads or neurons go is known when they are measured.
ROUGHLY = {"prune_structured": 0.06}
# What these cut, or give up, a ConvNeXt doesn't have.
NOT_IN_STAGES = {"prune_heads": "no heads", "prune_structured": "no heads", "prune_width": "a width of its own",
                 "cast": "convolves what it is given"}  # fmt: skip
NOT_OF_WAVES = {"prune_width": "computed for the width it has", "cast": "convolves what it is given"}
# All of a ResNet's blocks are convolutions.
OF_LINEAR_LAYERS = [
    name for name in steps.names() if name.startswith("quantize_") and name not in ("quantize_cache", "quantize_aware")
]
OF_LINEAR_LAYERS += ["factor_svd", "prune_ffn", "prune_gradually", "prune_magnitude", "prune_sparsegpt",
                     "prune_wanda", "refit", "smooth"]  # fmt: skip
# Steps that have nothing to do but for what one before has done.
AFTER = {"refit": "prune_magnitude"}
# Settings of examples that are for models of any size.
TINY = {"trim_vocabulary": {"keep": 12}, "prune_structured": {"length": 1}, "quantize_qat": {"bits": 4}}


def example(name):
    """The example of a step's docstring, as a config."""
    module = steps.load(name)
    text = re.search(r"Recipe::\n\n((?:    .*\n?)+)", module.__doc__).group(1)
    fields = yaml.safe_load("".join(line[4:] + "\n" for line in text.splitlines()))[0]
    # YAML reads 5e-5 as text; a recipe's own reader does not.
    fields = {key: float(value) if key == "learning_rate" else value for key, value in fields.items()}
    assert fields["step"] == name
    fields |= TINY.get(name, {})
    if "epochs" in module.Config.model_fields:
        fields["epochs"] = 1
    return module, module.Config.model_validate(fields)


def fitted(config, name):
    """Have a config ask no more than a family's tiny model can do."""
    spelled = config.step == "trim_vocabulary" and name in tiny.TAGGED
    # All its letters must stay.
    return config.model_copy(update={"keep": 75}) if spelled else config


def take(step, config, model, context):
    """Run a step as the runner does, after what it needs."""
    import transformers

    transformers.set_seed(context.seed)
    if config.step in AFTER:
        before = steps.load(AFTER[config.step])
        own = replace(context, scratch=context.scratch / "before")
        before.run(model, before.Config(step=AFTER[config.step], sparsity=0.5), own)
    return step.run(model, config, context)


def refused(config, model, context):
    """Whether a step is for other tasks, or other models, which it has to say."""
    if config.step == "prune_experts" and anatomy.met(model.module.config.to_dict()) is None:
        with pytest.raises(RecipeError, match="has no experts"):
            steps.load(config.step).run(model, config, context)
        return True
    model_type = model.module.config.model_type
    if config.step == "prune_channels" and model_type != "resnet":
        with pytest.raises(RecipeError, match="finds nothing to cut in a"):
            steps.load(config.step).run(model, config, context)
        return True
    if model_type == "resnet" and config.step in OF_LINEAR_LAYERS:
        with pytest.raises((RecipeError, StepError), match=r"no (linear layer|feed-forward network)"):
            take(steps.load(config.step), config, model, context)
        return True
    if model.task == "audio-classification" and config.step in NOT_OF_WAVES:
        with pytest.raises((RecipeError, StepError), match=NOT_OF_WAVES[config.step]):
            steps.load(config.step).run(model, config, context)
        return True
    if anatomy.staged(model_type) and config.step in NOT_IN_STAGES:
        with pytest.raises((RecipeError, StepError), match=NOT_IN_STAGES[config.step]):
            steps.load(config.step).run(model, config, context)
        return True
    if not config.tasks or model.task in config.tasks:
        return False
    with pytest.raises(StepError, match=model.task):
        steps.load(config.step).run(model, config, context)
    return True


def digest(folder):
    return {file.name: hashlib.sha256(file.read_bytes()).hexdigest() for file in folder.glob("*.safetensors")}


@pytest.fixture(params=steps.names())
def step(request):
    return example(request.param)


@pytest.mark.parametrize("name", ["llama", "vit"])
@pytest.mark.parametrize("step", STREAMING, indirect=True)
def test_weights_left_on_disk_make_no_difference(step, name, opened, context, tmp_path):
    module, config = step
    digests = []
    for more in ({}, {"scratch": tmp_path / "weights"}):
        model = opened(name, **more)
        take(module, config, model, context(model))
        model.save(tmp_path / f"saved-{len(digests)}")
        tensors = [load_file(file) for file in (tmp_path / f"saved-{len(digests)}").glob("*.safetensors")]
        digests.append({key: tensor for part in tensors for key, tensor in part.items()})
    assert digests[0].keys() == digests[1].keys()
    assert all(torch.equal(tensor, digests[1][key]) for key, tensor in digests[0].items())


@pytest.mark.parametrize("name", ["qwen2", "mixtral", "opt", "t5", "gpt2"])
@pytest.mark.parametrize("step", STREAMING, indirect=True)
def test_steps_of_the_walk_take_every_family(step, name, opened, context, logits, tmp_path):
    module, config = step
    model = opened(name, scratch=tmp_path / "weights")
    given = context(model)
    if name == "gpt2" and Fact.QUANTIZATION in config.made():
        with pytest.raises(RecipeError, match="transposed"):
            take(module, config, model, given)
        return
    take(module, config, model, given)
    model.save(tmp_path / "saved")
    claim = getattr(module, "claim", None)
    assert claim is None or claim(tmp_path / "saved", config) is None
    again = models.load(tmp_path / "saved", model.task)
    assert bool(torch.isfinite(logits(again, given)).all())
    changed = weights.read(tmp_path / "saved")
    assert changed.blocks() == weights.read(Path(model.source)).blocks()


@pytest.mark.parametrize("name", [*FAMILIES, *STAGED, *SOUNDS, *OTHER_TASKS])
def test_finite_repeatable_reopens_the_same_and_keeps_its_promise(step, name, opened, context, logits, tmp_path):
    module, config = step[0], fitted(step[1], name)
    digests = []
    for attempt in range(2):
        model = opened(name)
        given = replace(context(model), scratch=tmp_path / f"scratch-{attempt}")
        if refused(config, model, given):
            return
        notes = take(module, config, model, given)
        assert all(isinstance(value, float | int | str | bool) for value in notes.values())
        before = logits(model, given)
        assert bool(torch.isfinite(before).all())
        folder = tmp_path / f"saved-{attempt}"
        model.save(folder)
        digests.append(digest(folder))
    assert digests[0] == digests[1], "the same seed gives the same bytes"
    again = models.load(folder, model.task)
    assert torch.equal(logits(again, given), before), "what was saved computes what was in memory"
    assert torch.equal(logits(model, given), before), "saving leaves the model as it was"
    claim = getattr(module, "claim", None)
    assert claim is None or claim(folder, config) is None


@pytest.mark.parametrize("name", ["bert", "vit"])
def test_a_broken_promise_is_found(step, name, family):
    module, config = step
    if not hasattr(module, "claim"):
        pytest.skip("it promises nothing of the file")
    assert module.claim(family(name), config), "the original does not hold what the step makes"


@pytest.mark.parametrize("name", FAMILIES)
def test_the_plan_foresees_the_size(step, name, opened, context, family, tmp_path):
    module, config = step
    model = opened(name)
    if refused(config, model, context(model)):
        return
    take(module, config, model, context(model))
    model.save(tmp_path / "saved")
    foresee = getattr(module, "foresee", None)
    table = weights.read(family(name))
    table = foresee(table, config) if foresee else table
    if table is None:
        return
    foreseen = table.bytes
    held = sum(
        t.numel() * t.element_size() for f in (tmp_path / "saved").glob("*.safetensors") for t in load_file(f).values()
    )
    assert foreseen == pytest.approx(held, rel=ROUGHLY.get(config.step, 0.02))


@pytest.mark.parametrize("name", ["bert", "vit"])
def test_zeros_shapes_and_types_that_it_must_keep_are_kept(step, name, opened, context, tmp_path):
    module, config = step
    model = opened(name)
    given = context(model)
    if refused(config, model, given):
        return
    first = {Fact.SPARSITY: "prune_magnitude", Fact.SHAPES: "drop_layers", Fact.DTYPE: "cast"}
    for fact in sorted(config.keeps & first.keys()):
        if first[fact] != config.step:
            take(*example(first[fact]), model, given)
    blocks, dtype = len(model.blocks()), model.module.dtype
    zeros = {layer: part.weight == 0 for layer, part in linears(model).items()}
    if config.step == "drop_layers":
        zeros = {layer: mask for layer, mask in zeros.items() if ".0." in layer}
    take(module, config, model, given)
    model.save(tmp_path / "saved")
    again = models.load(tmp_path / "saved", model.task)
    logits_once = again.module(**{key: value for key, value in _inputs(again).items()})
    assert bool(torch.isfinite(logits_once.logits).all())
    if Fact.SHAPES in config.keeps:
        assert len(again.blocks()) <= blocks
    if Fact.DTYPE in config.keeps:
        assert again.module.dtype == dtype
    if Fact.SPARSITY in config.keeps:
        now = linears(again)
        for layer, mask in zeros.items():
            if now[layer].weight.shape == mask.shape:
                assert bool((now[layer].weight[mask] == 0).all()), layer
            else:
                # A part was cut out; of what is left as many are zero as of what was there, about.
                left = (now[layer].weight == 0).float().mean()
                assert abs(float(left - mask.float().mean())) < 0.15, layer


def _inputs(model):
    if model.task == "image-classification":
        return {"pixel_values": torch.zeros(1, 3, 8, 8)}
    return dict(model.processor(["the film was good"], return_tensors="pt"))


def test_the_readmes_example_is_a_step(opened, context):
    readme = Path(__file__).parents[2] / "README.md"
    (text,) = [
        block for block in re.findall(r"```python\n(.*?)```", readme.read_text(), re.S) if "class Config" in block
    ]
    step = {}
    exec(text, step)
    model, before = opened("bert"), linears(opened("bert"))
    assert step["run"](model, step["Config"](step="halve"), context(model)) == {"changed": len(before)}
    assert all(torch.equal(layer.weight, before[name].weight * 0.5) for name, layer in linears(model).items())


def test_experts_that_saw_too_few_tokens_are_rounded_to_nearest_and_counted(opened, context):
    module, config = example("quantize_gptq")
    model = opened("mixtral")
    notes = take(module, config, model, context(model, count=1))
    assert notes["starved"] >= 1
    assert ".experts." in notes["first_starved"]
