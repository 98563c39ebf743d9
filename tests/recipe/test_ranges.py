"""What a recipe leaves open: how it is written, what is refused and where, and the recipe that it becomes."""

import jsonschema
import pytest

from compressit import recipe, search
from compressit.recipe import RecipeProblems
from compressit.recipe.schema import schema

OPEN = """\
name: open
task: text-classification
model: demo:stdlib
dataset: {path: demo:stdlib, train: "train[:80%]", evaluation: test}
steps:
  - step: drop_layers
    keep: {search: [1, 5]}
  - step: prune_magnitude
    sparsity: {search: [0.1, 0.9]}
    optional: true
  - step: distill
    learning_rate: {search: [1e-5, 1e-3], scale: log}
    schedule: {choose: [linear, cosine]}
    batch_size: {choose: [8, 16]}
exports:
  - export: onnx
    weights: {choose: [int8, float32]}
targets: [{metric: accuracy, max_drop: 0.02}]
search: {tuning: "train[80%:]", objective: [fastest, size]}
"""
FULL = {
    "steps.0.keep": 3,
    "steps.1.sparsity": 0.5,
    "steps.1.optional": True,
    "steps.2.learning_rate": 1e-4,
    "steps.2.schedule": "cosine",
    "steps.2.batch_size": 8,
    "exports.0.weights": "int8",
}


def test_every_kind_of_range_is_found_and_filled_in(write):
    found = recipe.load_open(write(OPEN))
    assert {each.name for each in found.ranges} == set(FULL)
    kinds = {each.name: each for each in found.ranges}
    assert kinds["steps.0.keep"].whole
    assert not kinds["steps.1.sparsity"].whole
    assert kinds["steps.2.learning_rate"].log
    assert kinds["steps.2.batch_size"].choices == (8, 16)
    filled = found.filled(FULL).recipe
    assert [step.step for step in filled.steps] == ["drop_layers", "prune_magnitude", "distill"]
    assert (filled.steps[0].keep, filled.steps[2].schedule, filled.exports[0].weights) == (3, "cosine", "int8")
    assert filled.search.objectives == ("latency", "size")


def test_an_optional_step_can_be_left_out_and_errors_still_name_the_right_line(write):
    found = recipe.load_open(write(OPEN))
    without = {**FULL, "steps.1.optional": False}
    assert [step.step for step in found.filled(without).recipe.steps] == ["drop_layers", "distill"]
    with pytest.raises(RecipeProblems) as caught:
        found.filled({**without, "steps.2.batch_size": "many"})
    assert "recipe.yaml:14:17: error: batch_size: should be a whole number" in str(caught.value)


def test_numbers_are_rounded_to_what_is_worth_telling_apart(write):
    kinds = {each.name: each for each in recipe.load_open(write(OPEN)).ranges}
    assert kinds["steps.1.sparsity"].rounded(0.437291) == 0.44
    assert kinds["steps.1.sparsity"].rounded(0.8999) == 0.9
    assert kinds["steps.2.learning_rate"].rounded(0.000123456) == 0.00012
    assert kinds["steps.0.keep"].rounded(2.0) == 2


def test_other_verbs_say_what_to_do_with_an_open_recipe(write, cli):
    file = write(OPEN)
    with pytest.raises(RecipeProblems, match=r"steps.0.keep is left open(?s:.*)--set steps.0.keep=5"):
        recipe.load(file)
    done = cli("validate", file)
    assert done.returncode == 0, done.stderr
    assert "7 left open for `compressit search`" in done.stdout


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ("{search: [1, 5]}", "{search: [5, 1]}", "expected the lower end first"),
        ("{search: [1, 5]}", "{search: [1]}", "expected a list of two values or more"),
        ("{search: [1, 5]}", "{search: 5}", "expected a list of two values or more"),
        ("{search: [1, 5]}", "{search: [1, 5], steps: 2}", "unknown key 'steps'"),
        ("[1e-5, 1e-3], scale: log", "[0, 1e-3], scale: log", "scale: log needs numbers above 0"),
        ("scale: log", "scale: cubic", "scale: expected linear or log"),
        ("{choose: [8, 16]}", "{choose: [8, 8]}", "a value stands there twice"),
        ("{choose: [8, 16]}", "{choose: [8, 16], scale: log}", "scale: is for a range of numbers"),
        ("optional: true", "optional: maybe", "optional: expected true"),
        ("[1, 5]", "[1, 5.5]", "with steps.0.keep=5.5"),
        ("[linear, cosine]", "[linear, cosinus]", 'with steps.2.schedule="cosinus"'),
        ("[fastest, size]", "[fastest, sise]", "objective 'sise' is none of the recipe's metrics"),
        ("train[80%:]", "test", "test is the evaluation split"),
        ("search: {tuning", "# {tuning", "the recipe doesn't say how to search"),
    ],
)  # fmt: skip
def test_a_range_that_makes_no_sense_is_named_before_any_work(write, old, new, said):
    assert old in OPEN
    with pytest.raises(RecipeProblems) as caught:
        search.check(recipe.load_open(write(OPEN.replace(old, new))))
    assert said in str(caught.value)
    assert "recipe.yaml:" in str(caught.value)


def test_the_schema_takes_ranges_and_refuses_broken_ones(write):
    check = jsonschema.Draft202012Validator(schema())
    tree = recipe.load_open(write(OPEN)).document.tree
    assert not list(check.iter_errors(tree))
    tree["steps"][0]["keep"] = {"search": [1]}
    assert list(check.iter_errors(tree))


def test_how_to_search_is_no_part_of_what_a_recipe_does(write):
    found = recipe.load_open(write(OPEN)).filled(FULL).recipe
    assert recipe.digest(found) == recipe.digest(found.model_copy(update={"search": None}))
    assert "search" not in recipe.text(found)


NESTED = """\
name: nested
task: text-classification
model: demo:stdlib
dataset: {path: demo:stdlib, train: "train[:80%]", evaluation: test}
steps:
  - step: prune_magnitude
    sparsity: 0.5
    optional: true
  - step: finetune
    lora: {rank: {search: [2, 8]}, layers: ["*.query"]}
  - step: quantize_rtn
    rules:
      - {layers: ["*.query"], bits: {choose: [2, 4]}}
      - layers: ["*.key"]
        group_size: {choose: [channel, 32]}
targets: [{metric: accuracy, max_drop: 0.02}]
search: {tuning: "train[80%:]", objective: smallest}
"""
INNER = {"steps.1.lora.rank": 4, "steps.2.rules.0.bits": 2, "steps.2.rules.1.group_size": "channel"}


def test_what_a_field_holds_may_be_left_open_too(write):
    found = recipe.load_open(write(NESTED))
    assert {each.name for each in found.ranges} == {*INNER, "steps.0.optional"}
    search.check(found)
    filled = found.filled({**INNER, "steps.0.optional": False}).recipe
    assert filled.steps[0].lora.rank == 4
    assert [(rule.bits, rule.group_size) for rule in filled.steps[1].rules] == [(2, None), (None, "channel")]
    assert "rank: 4" in recipe.text(filled)
    with pytest.raises(RecipeProblems, match=r"steps.1.lora.rank is left open(?s:.*)--set steps.1.lora.rank=8"):
        recipe.load(write(NESTED))


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ("{search: [2, 8]}", "{search: [8, 2]}", "recipe.yaml:10:18: error: lora.rank: search: expected the lower end"),
        ("{search: [2, 8]}", "{search: [2, 8], by: 2}", "recipe.yaml:10:18: error: lora.rank: unknown key 'by'"),
        ("{search: [2, 8]}", "{choose: [2, 0]}", "greater than or equal to 1, not 0 (with steps.1.lora.rank=0)"),
        ("{choose: [2, 4]}", "{choose: [2, 2]}", "recipe.yaml:13:37: error: rules.0.bits: choose: a value stands"),
        ("{choose: [2, 4]}", "{choose: [2, 9]}", ":37: error: rules.0.bits: should be less than or equal to 8, not 9"),
        ("[channel, 32]", "[channel, row]", '(with steps.2.rules.1.group_size="row")'),
        ('layers: ["*.key"]', "search: [1, 2]", "recipe.yaml:14:9: error: unknown key 'search'"),
    ],
)
def test_a_range_inside_a_field_that_makes_no_sense_is_named_by_its_path(write, old, new, said):
    assert old in NESTED
    with pytest.raises(RecipeProblems) as caught:
        search.check(recipe.load_open(write(NESTED.replace(old, new))))
    assert said in str(caught.value)


def test_the_schema_takes_ranges_inside_of_what_steps_hold_and_nowhere_else(write):
    check = jsonschema.Draft202012Validator(schema())
    tree = recipe.load_open(write(NESTED)).document.tree
    assert not list(check.iter_errors(tree))
    tree["steps"][1]["lora"]["rank"] = {"search": [2]}
    assert list(check.iter_errors(tree))
    tree["steps"][1]["lora"]["rank"] = 2
    tree["dataset"]["generation"] = {"num_beams": {"search": [1, 4]}}
    assert list(check.iter_errors(tree))
