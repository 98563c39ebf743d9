"""A field that nothing will read is an error at its place; what a search fills in leaves such fields out."""

import re

import pytest

from compressit import recipe, rules, search
from compressit.errors import StepError
from compressit.exports import check_settled, onnx
from compressit.recipe import RecipeProblems
from compressit.weights import Weight, Weights

TEXT = """\
name: idle
task: {task}
model: demo:stdlib
dataset:
  path: demo:stdlib
  train: train
  calibration: train[:64]
  evaluation: test
{rest}
"""
LANGUAGE, PICTURES, WRITING = "text-generation", "image-classification", "summarization"


def said(text, write):
    """What is wrong with a recipe; nothing where it is empty."""
    try:
        found = rules.check(recipe.load(write(text)))
    except RecipeProblems as error:
        return str(error)
    return str(RecipeProblems(found)) if found else ""


def step(text, write, task="text-classification"):
    return said(TEXT.format(task=task, rest=f"steps:\n  - {{step: {text}}}"), write)


@pytest.mark.parametrize(
    ("idle", "needs"),
    [
        ("distill, layers: [9, 9]", "hidden: 1.0"),
        ("distill, layers: even", "hidden: 1.0"),
        ("distill, relation_heads: 7", "relations: 1.0"),
        ("distill, hidden: 1.0, relation_block: 1", "relations: 1.0"),
        ("distill, alpha: 1.0, teacher: demo:stdlib", "hidden: 1.0"),
        ("distill, logits: 0.0, hidden: 1.0, temperature: 3.0", "logits: 1.0"),
        ("distill, alpha: 1.0, temperature: 3.0", "alpha: 0.9"),
        ("distill, hidden: 1.0, logits: 0.0, alpha: 0.3", "logits: 1.0"),
        ("distill, hidden: 1.0, alpha: 1.0, teacher: [demo:stdlib, demo:stdlib]", "alpha: 0.9"),
        ("quantize_aware, layers: last", "hidden: 1.0"),
        ("drop_layers, keep: [0, 2], choose: last", "keep: 2"),
        ("drop_layers, keep: 2, batch_size: 4", "choose: influence"),
        ("prune_ffn, sparsity: 0.5, refit: false, special_tokens: true", "refit: true"),
        ("prune_ffn, sparsity: 0.5, refit: false, precision: float32", "refit: true"),
        ("prune_ffn, sparsity: 0.5, refit: false, sequential: false", "refit: true"),
        ("prune_ffn, sparsity: 0.5, refit: false, feed: original", "refit: true"),
        ("prune_heads, sparsity: 0.5, importance: magnitude, batch_size: 4", "importance: taylor"),
        ("prune_width, sparsity: 0.5, importance: random, refit: false, batch_size: 4", "refit: true"),
        ("prune_structured, sparsity: 0.5, importance: random, batch_size: 4", "budget: latency"),
        ("prune_sparsegpt, sparsity: 0.5, group_size: 32", "bits: 4"),
        ("prune_sparsegpt, sparsity: 0.5, symmetric: false", "bits: 4"),
        ("prune_sparsegpt, sparsity: 0.5, clip: none", "bits: 4"),
        ("prune_wanda, sparsity: 0.5, feed: original, sequential: true", "feed: compressed"),
        ("factor_svd, sparsity: 0.2, whiten: false, damping: 0.1", "whiten: true"),
        ("factor_svd, sparsity: 0.2, whiten: false, feed: original", "whiten: true"),
        ("quantize_rtn, scales: dynamic", "activations: int8"),
        ("quantize_float, format: fp8, scales: static", "activations: fp8"),
        ("quantize_gptq, widths: [4, 8]", "average_bits: 5.0"),
        ("trim_vocabulary, keep: 900, batch_size: 4", "others: nearest"),
        ("trim_vocabulary, keep: 900, others: nearest, min_count: 2", "others: pieces"),
    ],
)
def test_a_field_that_a_step_would_not_read_is_named(idle, needs, write):
    found = step(idle, write)
    assert "goes with" in found
    assert found.count(": error: ") == 1
    assert "leave it out" in found
    name = needs.partition(":")[0]
    without = ", ".join(part for part in re.split(r", (?=\w+:)", idle) if not part.startswith(f"{name}:"))
    assert step(f"{without}, {needs}", write) == ""


def test_it_is_named_at_its_place(write):
    text = TEXT.format(task="text-classification", rest="steps:\n  - step: distill\n    layers: last")
    assert "recipe.yaml:11:13: error: layers goes with hidden, and does nothing without" in said(text, write)


@pytest.mark.parametrize(
    "idle", ["activations: dynamic", "samples: 9", "per_channel: false", "reduce_range: false", "embeddings: false"]
)
def test_nothing_says_how_to_round_what_is_not_rounded(idle, write):
    text = TEXT.format(task="text-classification", rest=f"exports:\n  - export: onnx\n    {idle}")
    assert "goes with weights: int8, and does nothing without" in said(text, write)
    whole = f"weights: int8\n    {idle}"
    assert said(text.replace(idle, whole), write) == ""


def test_rows_for_ranges_go_with_ranges_of_rows(write):
    text = TEXT.format(task="text-classification", rest="exports: [{export: onnx, weights: int8, %s samples: 9}]")
    assert "samples goes with activations: static" in said(text % "activations: dynamic,", write)
    assert said(text % "activations: static,", write) == ""
    openvino = TEXT.format(task="text-classification", rest="exports: [{export: openvino, samples: 9}]")
    assert "samples goes with weights: int8" in said(openvino, write)
    trained = "steps: [quantize_aware]\nexports: [{export: openvino, weights: int8, samples: 9}]"
    found = said(TEXT.format(task="text-classification", rest=trained), write)
    assert "openvino takes the ranges that step 1 has found" in found
    assert "give samples to quantize_aware" in found


def test_what_a_model_decides_may_leave_a_field_idle():
    linear = Weights("bert", (Weight("a.weight", (8, 8), 32),))
    written = onnx.Config(export="onnx", weights="int8", samples=9)
    with pytest.raises(StepError, match="samples goes with activations: static"):
        check_settled(written, written.settled(linear), calibrated=True)
    check_settled(written, written.settled(None), calibrated=True)


@pytest.mark.parametrize(
    ("task", "idle", "why"),
    [
        (PICTURES, "prune_ffn, sparsity: 0.5, special_tokens: true", "image-classification has none"),
        (PICTURES, "smooth, special_tokens: false", "image-classification has none"),
    ],
)
def test_pictures_have_no_special_tokens(task, idle, why, write):
    assert why in step(idle, write, task)


def test_pictures_have_no_tokens_to_cut_at_or_to_store(write):
    text = TEXT.format(task=PICTURES, rest="  max_length: 64\nsteps: [cast]\nexports: [%s]")
    found = said(text % "{export: onnx, weights: int8, embeddings: false}", write)
    assert "recipe.yaml:9:15: error: max_length counts tokens, and image-classification has none" in found
    assert "onnx: embeddings are of a text's tokens, and image-classification has none" in found


@pytest.mark.parametrize("field", ["name", "revision"])
@pytest.mark.parametrize("path", ["demo:stdlib", "rows.csv", "folder"])
def test_only_the_hub_has_configurations_and_revisions(path, field, write, tmp_path):
    (tmp_path / "folder").mkdir()
    for place in (tmp_path / "rows.csv", tmp_path / "folder" / "train.csv", tmp_path / "folder" / "test.csv"):
        place.write_text("text,label\ngood,1\nbad,0\n")
    splits = {"rows.csv": ("train[:1]", "train[1:]"), "folder": ("train.csv", "test.csv")}
    train, test = splits.get(path, ("train", "test"))
    text = TEXT.format(task="text-classification", rest=f"  {field}: nonsense\nsteps: [cast]")
    text = text.replace("path: demo:stdlib", f"path: {path}").replace("train[:64]", train)
    text = text.replace("train: train\n", f"train: {train}\n").replace("evaluation: test", f"evaluation: {test}")
    found = said(text, write)
    assert f"error: {field} is of a" in found
    assert path in found
    assert "leave it out" in found
    assert said(text.replace(f"  {field}: nonsense\n", ""), write) == ""
    assert f"{field} is of" not in said(text.replace(f"path: {path}", "path: glue"), write)


def test_a_folder_whose_readme_names_configurations_has_some(write, tmp_path):
    (tmp_path / "folder").mkdir()
    text = TEXT.format(task="text-classification", rest="  name: one\nsteps: [cast]")
    assert said(text.replace("path: demo:stdlib", "path: folder"), write) == ""


def test_a_model_that_lies_elsewhere_has_no_revision(write):
    text = TEXT.format(task="text-classification", rest="steps: [cast]")
    found = said(text.replace("model: demo:stdlib", "model: {path: demo:stdlib, revision: main}"), write)
    assert "revision is of a model on the hub, and demo:stdlib is none" in found


def test_a_leak_is_between_splits(write):
    text = TEXT.format(task="text-classification", rest="  max_leak: 0.5\nsteps: [cast]")
    assert said(text, write) == ""
    alone = text.replace("  train: train\n", "").replace("  calibration: train[:64]\n", "")
    assert "max_leak goes with train or calibration" in said(alone, write)


def test_one_beam_is_compared_with_no_other(write):
    text = TEXT.format(task=WRITING, rest="  generation: {num_beams: 1, length_penalty: 2.0}\nsteps: [cast]")
    assert "recipe.yaml:9:46: error: length_penalty goes with num_beams above 1" in said(text, write)
    assert said(text.replace("num_beams: 1", "num_beams: 4"), write) == ""


def test_stems_are_of_english_words(write):
    text = TEXT.format(task=WRITING, rest="steps: [cast]\nmetrics: [{metric: rouge, words: any, stemmer: true}]")
    assert "stemmer goes with words: english" in said(text, write)


def test_nothing_that_is_left_out_is_missed(write):
    """Null is as if it weren't there."""
    assert step("distill, relation_heads: null, teacher: null, alpha: 1.0", write) == ""


OPEN = """\
name: open
task: text-classification
model: demo:stdlib
dataset: {path: demo:stdlib, train: "train[:80%]", calibration: "train[:64]", evaluation: test}
steps:
  - step: distill
    alpha: {choose: [0.5, 1.0]}
    temperature: {search: [1.0, 4.0]}
exports:
  - export: onnx
    weights: {choose: [int8, float32]}
    activations: {choose: [dynamic, static]}
    samples: 40
metrics: [accuracy, size]
search: {tuning: "train[80%:]", objective: size}
"""


@pytest.mark.parametrize("alpha", [0.5, 1.0])
@pytest.mark.parametrize("weights", ["int8", "float32"])
@pytest.mark.parametrize("activations", ["static", "dynamic"])
def test_a_trial_leaves_out_what_its_values_make_idle(alpha, weights, activations, write):
    found = recipe.load_open(write(OPEN))
    search.check(found)
    values = {"steps.0.alpha": alpha, "steps.0.temperature": 3.0, "exports.0.weights": weights}
    trial = found.filled({**values, "exports.0.activations": activations}).recipe
    assert trial.steps[0].says("temperature") is (alpha < 1)
    assert trial.exports[0].says("activations") is (weights == "int8")
    assert trial.exports[0].says("samples") is (weights == "int8" and activations == "static")
    assert not rules.check(recipe.load(write(recipe.text(trial), "again.yaml")))


def test_a_search_keeps_nothing_that_none_of_its_values_reads(write):
    text = OPEN.replace("weights: {choose: [int8, float32]}", "per_channel: {choose: [true, false]}")
    with pytest.raises(RecipeProblems, match="samples goes with weights: int8"):
        search.check(recipe.load_open(write(text)))
