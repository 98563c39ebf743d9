"""What a recipe needs and this machine lacks is refused before any work, where it will run and nowhere else."""

import sys

import pytest

from compressit import plan, recipe
from compressit.recipe import RecipeProblems
from tests import tiny

TEXTS = """\
name: texts
task: text-classification
model: {model}
dataset: {{path: {data}, train: train.jsonl, calibration: "train.jsonl[:9]", evaluation: test.jsonl,
          columns: {{text: sentence}}}}
"""
PICTURES = """\
name: pictures
task: image-classification
model: {model}
dataset: {{path: "demo:digits", train: "train[:64]", evaluation: test}}
"""
LORA = "steps: [{step: distill, epochs: 1, lora: {rank: 2}}]\n"
INT8 = "exports: [{export: openvino, weights: int8}]\n"


@pytest.mark.parametrize(
    ("text", "more", "package", "named", "extra"),
    [
        (TEXTS, "exports: [onnx]\n", "onnxscript", "onnxscript", "onnx"),
        (TEXTS, "exports: [onnx]\n", "onnxruntime", "onnxruntime", "onnx"),
        (TEXTS, INT8, "nncf", "nncf", "openvino"),
        (TEXTS, LORA, "peft", "peft", "lora"),
        (TEXTS, "steps: [quantize_rtn]\n", "compressed_tensors", "compressed-tensors", "quantization"),
        (PICTURES, "steps: [cast]\n", "PIL", "pillow", "vision"),
        (PICTURES.replace("image", "audio"), "steps: [cast]\n", "soxr", "soxr", "audio"),
    ],
    ids=["file", "runtime", "rounding", "training", "format", "pictures", "sounds"],
)
def test_an_extra_that_is_not_there_is_named(text, more, package, named, extra, sentiment, write, monkeypatch):
    file = write(text.format(model="demo:digits" if "digits" in text else sentiment / "model", data=sentiment) + more)
    plan.plan(recipe.load(file))
    monkeypatch.setitem(sys.modules, package, None)
    with pytest.raises(RecipeProblems) as caught:
        plan.plan(recipe.load(file))
    (problem,) = caught.value.problems
    assert (problem.message, problem.hint) == (f"{named} is not installed", f"pip install 'compressit[{extra}]'")
    plan.plan(recipe.load(file), elsewhere=True)


def test_what_these_settings_do_not_need_may_be_missing(sentiment, write, monkeypatch):
    for package in ("nncf", "peft", "compressed_tensors", "PIL", "lm_eval", "onnxruntime"):
        monkeypatch.setitem(sys.modules, package, None)
    text = TEXTS.format(model=sentiment / "model", data=sentiment)
    plan.plan(recipe.load(write(text + "steps: [{step: distill, epochs: 1}]\nexports: [openvino]\n")))


@pytest.mark.parametrize(
    ("metrics", "package", "extra"),
    [
        ("metrics: [accuracy, {metric: evaluate, load: accuracy, name: theirs}]\n", "evaluate", "evaluate"),
        ("metrics: [accuracy]\ntargets: [{metric: entity_f1, min: 0.5}]\n", "seqeval", "tasks"),
        ("", "seqeval", "tasks"),
    ],
    ids=["named", "target", "default"],
)
def test_so_is_what_computes_a_metric(metrics, package, extra, sentiment, write, monkeypatch):
    task = "text-classification" if "evaluate" in metrics else "token-classification"
    columns = "{text: sentence}" if "evaluate" in metrics else "{tokens: sentence, tags: label}"
    text = TEXTS.format(model=sentiment / "model", data=sentiment)
    text = text.replace("text-classification", task).replace("{text: sentence}", columns)
    file = write(text + metrics + "steps: [{step: drop_layers, keep: 2}]\n")
    plan.plan(recipe.load(file))
    monkeypatch.setitem(sys.modules, package, None)
    with pytest.raises(RecipeProblems, match=rf"{package} is not installed[^$]*compressit\[{extra}\]"):
        plan.plan(recipe.load(file))
    plan.plan(recipe.load(file), elsewhere=True)


def test_questions_of_a_harness_need_it(storyteller, write, monkeypatch):
    monkeypatch.setitem(sys.modules, "lm_eval", None)
    text = f"""\
name: asked
task: multiple-choice
model: {storyteller / "model"}
dataset: {{path: "lm_eval:arc_easy", evaluation: "test[:12]"}}
steps: [{{step: prune_magnitude, sparsity: 0.5}}]
metrics: [accuracy]
"""
    with pytest.raises(RecipeProblems, match=r"lm-eval is not installed[^$]*compressit\[lm-eval\]"):
        plan.plan(recipe.load(write(text)))


def test_a_recipe_is_valid_whatever_is_installed(sentiment, write, cli, tmp_path):
    """As a hook checks it where nothing will run."""
    text = TEXTS.format(model=sentiment / "model", data=sentiment) + LORA + INT8
    (tmp_path / "without").mkdir()
    (tmp_path / "without" / "sitecustomize.py").write_text(
        "import sys\nsys.modules.update(dict.fromkeys(('openvino', 'nncf', 'peft')))\n"
    )
    without = {"PYTHONPATH": f"{tmp_path / 'without'}:{':'.join(sys.path)}"}
    assert cli("validate", write(text), env=without).returncode == 0
    refused = cli("plan", write(text), env=without)
    assert refused.returncode == 2
    for package in ("peft", "openvino"):
        assert f"{package} is not installed" in refused.stderr


@pytest.mark.parametrize("name", ["resnet", "convnext", "convnextv2"])
def test_hidden_states_are_refused_where_blocks_form_no_stack(name, tmp_path, write):
    if name == "convnextv2":
        import transformers

        fields = {"num_stages": 2, "hidden_sizes": [16, 32], "depths": [1, 1], "num_labels": 10}
        module = transformers.ConvNextV2ForImageClassification(transformers.ConvNextV2Config(**fields))
        module.save_pretrained(tmp_path / "model")
        tiny.processor("convnext").save_pretrained(tmp_path / "model")
    else:
        tiny.save(name, tmp_path / "model")
    text = PICTURES.format(model=tmp_path / "model")
    with pytest.raises(RecipeProblems, match=f"one stack of different blocks, which a {name} is not"):
        plan.plan(recipe.load(write(text + "steps: [{step: distill, hidden: 1.0}]\n")))
    plan.plan(recipe.load(write(text + "steps: [{step: distill, hidden: 1.0, control: true}, distill]\n")))
