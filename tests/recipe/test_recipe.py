"""A recipe's errors come all at once, each with its line, and say what to do."""

import json

import jsonschema
import pytest

from compressit import recipe, rules
from compressit.errors import RecipeError
from compressit.recipe import RecipeProblems
from compressit.recipe.schema import schema

GOOD = """\
name: tiny
task: text-classification
model: demo:stdlib
dataset:
  path: demo:stdlib
  train: train[:100]
  calibration: train[:10%]
  evaluation: test
steps:
  - step: drop_layers
    keep: 2
  - step: distill
    epochs: 1
    learning_rate: 1e-4
  - step: drop_layers
    keep: [0]
exports:
  - export: onnx
    weights: int8
metrics: [accuracy, {metric: latency, batch_size: 8, name: latency-8}]
targets:
  - {metric: accuracy, max_drop: 0.01}
  - {metric: latency-8, max: 5 ms, artifact: checkpoint}
  - {metric: size, max: 70 MB}
"""


def problems(text, write, overrides=()):
    with pytest.raises(RecipeProblems) as caught:
        written = recipe.load(write(text), overrides)
        found = rules.check(written)
        if found:
            raise RecipeProblems(found)
    return str(caught.value)


def test_a_good_recipe(write):
    written = recipe.load(write(GOOD))
    assert rules.check(written) == []
    found = written.recipe
    assert [step.step for step in found.steps] == ["drop_layers", "distill", "drop_layers"]
    assert found.steps[1].learning_rate == 1e-4
    assert found.steps[2].keep == (0,)
    assert [config.key for config in rules.measured(found)] == ["accuracy", "latency-8", "size"]


def test_every_error_at_once_with_place_excerpt_and_suggestion(write):
    text = GOOD.replace("epochs: 1", "epoch: 1").replace("weights: int8", "weights: int9")
    text = text.replace("- step: drop_layers\n    keep: [0]", "- step: drop_layer\n    keep: [0]").replace(
        "model: demo:stdlib\n", "modle: demo:stdlib\n"
    )
    said = problems(text, write)
    assert "recipe.yaml:13:5: error: unknown key 'epoch'; did you mean 'epochs'?" in said
    assert "   13 |     epoch: 1\n      |     ^" in said
    assert "unknown step 'drop_layer'; did you mean 'drop_layers'?" in said
    assert "unknown key 'modle'; did you mean 'model'?" in said
    assert "'model' is missing" in said
    assert "weights: should be 'float32' or 'int8', not \"int9\"" in said
    assert "pydantic" not in said
    assert said.count(": error: ") == 5


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ("keep: 2", "keep: true", "keep: should be"),
        ("keep: 2", "keep: 2.5", "keep: should be"),
        ("keep: 2", "keep: 0", "keep: should be"),
        ("epochs: 1", "epochs: yes", 'should be a number, not "yes"'),
        ("name: tiny", "name: 12", "put it in quotes"),
        ("name: tiny", "name: ../../x", "name: String should match"),
        ("train: train[:100]", "train: train[100", "is not a split"),
        ("steps:\n", "steps: 3\nolder:\n", "steps must be a list"),
        ("text-classification", "text-clasification", "did you mean 'text-classification'"),
        ("max: 70 MB", "max: 70", "needs a unit"),
        ("max: 70 MB", "max: 70 ms", "no unit of this metric"),
        ("max: 70 MB", "max: 70 MB, min: 1 B", "exactly one of"),
        ("max: 70 MB", "max_drop: 0.1", "lower is better"),
        ("metric: latency-8, max: 5 ms", "metric: latency-8, max_drop: 0.1", "use min_ratio or max_ratio"),
        ("model: demo:stdlib", 'model: "a\\0b"', "can't be the name of a place"),
        ("model: demo:stdlib", 'model: ""', "can't be the name of a place"),
        ("model: demo:stdlib", "model: " + "a" * 3000, "can't be the name of a place"),
        ("model: demo:stdlib", "model: ~nobody-at-all/x", "there is no model at"),
        ("evaluation: test", 'evaluation: "te\\0st"', "is not a split"),
        ("metric: size, max: 70 MB", "metric: evaluate, min: 0.5", "evaluate needs load"),
        ("max: 70 MB", "max: 1e999 MB", "is too large a number"),
        ("epochs: 1", "epochs: 1e300", "should be less than or equal to 10000"),
        ("  evaluation: test", "  evaluation: test\n  columns: {text: a, label: a}", "column 'a' serves two roles"),
        ("weights: int8", "weights: int8\n    name: examples", "export called 'examples'"),
        ("metric: accuracy, max_drop: 0.01", "metric: accuracy, min: 90", "accuracy lies between 0 and 1, not at 90"),
        ("metric: accuracy, max_drop: 0.01", "metric: accuracy, max_drop: 2", "accuracy can't fall by 2"),
        ("max: 70 MB", "max: -5 MB", "size is always more than 0"),
        ("model: demo:stdlib", "model: trian.csv", "there is no model at"),
        ("dataset:\n  path: demo:stdlib", "dataset: demo:stdlib\nolder:", "dataset: should be a mapping"),
        ("metric: size", "metric: sise", "did you mean 'size'"),
        ("artifact: checkpoint", "artifact: checkpint", "did you mean 'checkpoint'"),
        ("  train: train[:100]\n", "", "needs training data"),
        ("demo:stdlib\ndataset", "demo:stdlip\ndataset", "did you mean 'stdlib'"),
        ("model: demo:stdlib", "model: ./nowhere", "there is no model at"),
        ("metrics: [accuracy,", "metrics: [accuracy, accuracy,", "a second metric called"),
        ("max_drop: 0.01", "max_drop: -1", "should be greater"),
        ("  - step: distill", "  - step: quantize_rtn\n  - step: distill", "distill would undo the quantization"),
        ("weights: int8", "activations: static", "activations goes with weights: int8"),
    ],
)
def test_one_error(old, new, said, write):
    assert old in GOOD
    assert said in problems(GOOD.replace(old, new, 1), write)


def test_a_run_folder_is_no_model_but_holds_one(write, tmp_path):
    (tmp_path / "run/checkpoint").mkdir(parents=True)
    (tmp_path / "run/checkpoint/config.json").write_text("{}")
    (found,) = rules.check(recipe.load(write(GOOD.replace("model: demo:stdlib", "model: ./run", 1))))
    assert "holds no config.json" in found.message
    assert found.hint == f"did you mean {tmp_path / 'run/checkpoint'}?"


def test_quantized_weights_cannot_be_exported_to_onnx_as_float32(write):
    text = GOOD.replace("  - step: drop_layers\n    keep: [0]", "  - step: quantize_rtn")
    assert "onnx can't hold the quantization that step 3" in problems(text, write)


def test_an_export_that_calibrates_needs_a_split_to_do_it_on(write):
    text = GOOD.replace("- export: onnx", "- export: openvino")
    assert rules.check(recipe.load(write(text))) == []
    said = problems(text.replace("  calibration: train[:10%]\n", ""), write)
    assert "recipe.yaml:17:13: error: openvino needs calibration data" in said
    assert "name a split in the recipe's dataset: calibration: train[:512]" in said
    assert (
        rules.check(recipe.load(write(text.replace("  calibration: train[:10%]\n", "").replace("int8", "float32"))))
        == []
    )


def test_an_override_is_checked_and_named(write):
    said = problems(GOOD, write, ("steps.0.keep=none",))
    assert "--set steps.0.keep=none: error" in said


@pytest.mark.parametrize("path", ["steps.\u00b2", "steps." + "9" * 5000, "steps.-1", "", "."])
def test_an_override_of_nothing_is_an_error(path, write):
    with pytest.raises(RecipeError, match="--set"):
        recipe.load(write(GOOD), (f"{path}=1",))


def test_a_target_on_examples_needs_a_data_set(write):
    text = "name: a\ntask: text-classification\nmodel: demo:stdlib\nsteps: [cast]\n"
    assert "accuracy needs examples" in problems(text + "targets: [{metric: accuracy, min: 0.5}]\n", write)


def test_ten_thousand_errors_are_twenty_and_a_count(write):
    said = problems(GOOD + "extra:\n" + "\n".join(f"k{n}: 1" for n in range(3000)), write)
    assert said.count(": error: ") == 20
    assert "2,981 more" in said


def test_control_characters_never_reach_the_terminal(write):
    assert "\x1b" not in problems(GOOD.replace("keep: 2", 'keep: "\\e[31mred"'), write)


def test_what_was_run_can_be_run_again(write):
    found = recipe.load(write(GOOD), ("seed=3",)).recipe
    again = recipe.load(write(recipe.text(found), "again.yaml")).recipe
    assert recipe.digest(again) == recipe.digest(found)


def test_a_recipe_made_absolute_runs_from_anywhere(write, tmp_path):
    (tmp_path / "data").mkdir()
    written = recipe.load(write(GOOD.replace("  path: demo:stdlib", "  path: data")))
    anchored = recipe.anchored(written.recipe, written.base)
    assert anchored.dataset.path == str(tmp_path / "data")
    assert anchored.model.path == "demo:stdlib"
    assert anchored.steps == written.recipe.steps


def test_an_override_of_one_place_leaves_its_alias_alone(write):
    text = GOOD.replace("  - step: drop_layers\n    keep: 2", "  - &cut\n    step: drop_layers\n    keep: 2")
    text = text.replace("  - step: drop_layers\n    keep: [0]", "  - *cut")
    steps = recipe.load(write(text), ("steps.2.keep=1",)).recipe.steps
    assert [steps[0].keep, steps[2].keep] == [2, 1]


def test_spacing_and_comments_do_not_change_the_digest(write):
    first = recipe.load(write(GOOD)).recipe
    second = recipe.load(write("# hello\n" + GOOD.replace("keep: 2", "keep:    2   # two"), "b.yaml")).recipe
    assert recipe.digest(first) == recipe.digest(second)
    assert recipe.digest(first) != recipe.digest(recipe.load(write(GOOD), ("seed=1",)).recipe)


def test_the_schema_takes_good_recipes_and_rejects_bad_ones():
    import yaml

    check = jsonschema.Draft202012Validator(schema())
    tree = yaml.safe_load(GOOD.replace("1e-4", "0.0001"))
    assert list(check.iter_errors(tree)) == []
    for change in ({"steps": [{"step": "drop_layer"}]}, {"modle": 1}, {"steps": [{"step": "distill", "epoch": 1}]},
                   {"task": "nothing"}):  # fmt: skip
        assert list(check.iter_errors({**tree, **change})), change
    text = json.dumps(schema())
    assert "How much the probabilities of both are softened" in text.replace("T: how", "How"), "fields carry their docs"
