"""What is foreseen of whether plain transformers opens a checkpoint, held to what it does."""

import json

import pytest

from compressit import model as models
from compressit import plan, recipe, weights
from compressit.errors import CompressitError
from compressit.steps import load
from tests import tiny
from tests.anatomy.conftest import FAMILIES

HALF = {"sparsity": 0.5, "importance": "magnitude", "refit": False}
EVEN = {**HALF, "uniform": True}
CUTS = {
    "neurons": [("prune_ffn", HALF)],
    "neurons alike": [("prune_ffn", EVEN)],
    "heads": [("prune_heads", HALF)],
    "heads alike": [("prune_heads", EVEN)],
    "three of four heads": [("prune_heads", {**EVEN, "sparsity": 0.25})],
    "both": [("prune_structured", HALF)],
    "width": [("prune_width", HALF)],
    "width and heads": [("prune_width", HALF), ("prune_heads", EVEN)],
    "channels": [("prune_channels", EVEN)],
    "layers that are two": [("factor_svd", {"sparsity": 0.3, "whiten": False})],
}

RESNETS = [name for name in tiny.CONVOLUTIONS if name.startswith("resnet")]
OTHERS = [*FAMILIES, *(name for name in tiny.CONVOLUTIONS if name not in RESNETS)]
CASES = [(name, cuts) for cuts in CUTS for name in (RESNETS if cuts == "channels" else OTHERS)]


@pytest.mark.parametrize(("name", "cuts"), CASES)
def test_what_is_foreseen_of_opening_comes_true(name, cuts, family, opened, context):
    configs = [load(step).Config(step=step, **fields) for step, fields in CUTS[cuts]]
    end, model = weights.read(family(name)), opened(name)
    given = context(model)
    try:
        for config in configs:
            end = load(config.step).foresee(end, config) or end
            notes = load(config.step).run(model, config, given)
    except CompressitError as error:
        pytest.skip(str(error))
    found = [said for config in configs if (said := config.unsaid(end)) is not None]
    model.save(given.scratch / "saved")
    plain = models.opens_plainly(given.scratch / "saved")
    assert notes.get("opens_in_plain_transformers", plain) == plain
    assert plain or found, "nobody was warned"
    assert not (plain and any(said.sure for said in found)), [said.why for said in found]
    if cuts in ("neurons alike", "width and heads") and name in ("bert", "llama", "vit", "t5"):
        assert plain
        assert not found


RECIPE = """\
name: unlike
task: {task}
model: {model}
dataset:
  {{path: {data}, train: train.jsonl, calibration: "train.jsonl[:8]", evaluation: test.jsonl, columns: {columns}}}
steps: [{{step: {step}}}]
exports: [{exports}]
metrics: [size]
"""


@pytest.fixture
def warned(sentiment, family, write):
    """Plan one step on a tiny model, and give the warnings."""

    def planned(step, name="bert", exports=""):
        writes = name == "llama"
        columns = "{text: sentence}"
        task = "text-generation" if writes else "text-classification"
        text = RECIPE.format(task=task, model=family(name), data=sentiment, columns=columns, step=step, exports=exports)
        return plan.plan(recipe.load(write(text))).warnings

    return planned


def test_the_plan_warns_names_the_step_and_says_what_else_there_is(warned):
    (said,) = warned("prune_structured, sparsity: 0.5", exports="onnx")
    assert said.startswith(
        "step 1 (prune_structured): blocks may come to differ in how many heads and neurons they have"
    )
    assert "compressit.load does; export onnx opens anywhere" in said
    assert "with prune_ffn with uniform: true" in said
    (said,) = warned("prune_ffn, sparsity: 0.5")
    assert "an export to onnx" in said
    assert "an export to gguf" not in said
    assert "with uniform: true plain transformers opens it" in said
    (said,) = warned("student_textcnn")
    assert "plain transformers won't open the checkpoint, compressit.load does" in said
    assert warned("prune_ffn, sparsity: 0.5, uniform: true") == ()
    assert warned("drop_layers, keep: 2") == ()


def test_no_export_is_named_that_would_refuse(warned):
    for step in ("factor_svd, sparsity: 0.3", "prune_ffn, sparsity: 0.5"):
        (said,) = warned(step, name="llama")
        assert "anywhere" not in said
    (said,) = warned("prune_heads, sparsity: 0.25", name="llama")
    assert "with uniform: true plain transformers opens it" in said


def test_warnings_stand_in_what_plan_prints(cli, sentiment, write):
    text = RECIPE.format(
        task="text-classification", model=sentiment / "model", data=sentiment, columns="{text: sentence}",
        step="prune_ffn, sparsity: 0.5", exports="",
    )  # fmt: skip
    file = write(text)
    assert "\nwarning   step 1 (prune_ffn): blocks may come to differ" in cli("plan", file).stdout
    (said,) = json.loads(cli("plan", file, "--json").stdout)["warnings"]
    assert said.startswith("step 1 (prune_ffn)")
