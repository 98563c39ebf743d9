"""The whole line, from recipe to report, as saved on disk."""

import json
import shutil

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

import compressit
from compressit import recipe, store
from compressit.errors import ExitCode, IntegrityError, RecipeError, StepError

WHOLE = """\
name: whole
task: text-classification
model: {model}
dataset:
  path: {data}
  train: train.jsonl
  calibration: train.jsonl[:64]
  evaluation: test.jsonl
  columns: {{text: sentence}}
steps:
  - step: drop_layers
    keep: 2
    choose: influence
  - step: prune_magnitude
    sparsity: 0.5
  - step: distill
    epochs: 2
    learning_rate: 1e-3
exports:
  - export: onnx
    weights: int8
  - export: onnx
    name: onnx-float
metrics:
  [accuracy, f1, agreement, kl_divergence, latency, throughput, size, parameters, nonzero, bits_per_weight, peak_memory]
targets:
  - {{metric: accuracy, max_drop: 0.1, artifact: onnx}}
  - {{metric: nonzero, max: 0.9, artifact: checkpoint}}
  - {{metric: size, max_ratio: 0.9, artifact: checkpoint}}
"""


@pytest.fixture(scope="module")
def text(sentiment):
    return WHOLE.format(model=sentiment / "model", data=sentiment)


@pytest.fixture(scope="module")
def run(text, tmp_path_factory):
    """One run of everything: its folder and its report."""
    folder = tmp_path_factory.mktemp("run")
    (folder / "whole.yaml").write_text(text)
    return folder / "out", compressit.apply(folder / "whole.yaml", folder / "out")


def test_the_report_tells_the_whole_story(run):
    folder, report = run
    assert [step.step for step in report.steps] == ["drop_layers", "prune_magnitude", "distill"]
    assert [artifact.name for artifact in report.artifacts] == ["checkpoint", "onnx", "onnx-float"]
    assert report.exit_code is ExitCode.OK, [verdict.why for verdict in report.verdicts]
    for artifact in (report.original, *report.artifacts):
        for reading in artifact.readings:
            assert reading.value is not None, reading
            if reading.low is not None:
                assert reading.low <= reading.high
    said = json.loads((folder / "report.json").read_text())
    assert said == report.model_dump(mode="json")
    assert said["schema_version"] == 1
    for fact in ("recipe_sha256", "seed", "versions", "hardware", "model", "data"):
        assert said["provenance"][fact] not in (None, {}, "")
    assert said["provenance"]["data"]["examples"] == 300


def test_the_runtimes_gain_stands_apart_from_the_compressions(run):
    _, report = run
    onnx, floats = report.artifacts[1:]
    assert {*onnx.runtime_ratio} == {1, 32}
    assert report.artifacts[0].runtime_ratio == {}
    latency = {a.name: next(r for r in a.readings if r.metric == "latency") for a in report.artifacts}
    assert latency["onnx"].baseline != latency["checkpoint"].baseline, "each is next to the original on its own runtime"
    assert floats.runtime == "onnxruntime"


def test_latency_is_held_against_what_is_left_of_the_blocks(run):
    folder, report = run
    assert report.original.multiplications is None
    assert {artifact.multiplications for artifact in report.artifacts} == {0.5}, "two of four layers were dropped"
    said = (folder / "report.md").read_text()
    assert said.count("50% of the blocks' multiplications are left, and latency at batch size 1 is") == 3


def test_the_report_says_what_each_step_did(run):
    folder, report = run
    dropped, pruned, distilled = report.steps
    assert {"size", "multiplications", "parameters"} <= {*dropped.gained}
    assert {*pruned.gained} >= {"nonzero"}
    assert not {*pruned.gained} & {"size", "multiplications", "parameters"}
    assert pruned.after.nonzero < dropped.after.nonzero
    assert pruned.after.parameters == dropped.after.parameters
    assert distilled.after is None, "the last one's is the checkpoint"
    onnx, floats = report.artifacts[1:]
    assert "size" in onnx.gained
    assert "size" not in floats.gained
    assert not {*onnx.gained, *floats.gained} & {"latency", "throughput", "peak_memory", "multiplications"}
    said = (folder / "report.md").read_text()
    assert "| 2 | prune\\_magnitude |" in said
    assert said.count("(0.5") >= 3


def test_everything_lies_beside_the_weights(run):
    folder, _ = run
    names = {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()}
    assert names >= {
        "manifest.json", "report.json", "report.md", "report.html", "recipe.yaml", "checkpoint/model.safetensors",
        "checkpoint/README.md", "checkpoint/recipe.yaml", "checkpoint/tokenizer.json", "onnx/model.onnx",
        "onnx/tokenizer.json", "onnx/README.md", "onnx-float/model.onnx", "examples/original.npz", "examples/onnx.npz",
    }  # fmt: skip
    assert store.verify(folder) == []
    assert not [name for name in names if name.startswith(".")]
    card = (folder / "checkpoint" / "README.md").read_text()
    assert card.startswith("---\nlibrary_name: transformers\npipeline_tag: text-classification\n")
    assert "\ncheckpoint: " in card, "each card's headline is about its own artifact"
    assert "compressit.load" not in card
    card = (folder / "onnx" / "README.md").read_text()
    assert card.startswith("---\nlibrary_name: onnxruntime\n")
    assert "onnxruntime.InferenceSession" in card
    assert "drop\\_layers" in (folder / "report.md").read_text()


def test_what_was_run_can_be_run_again(run):
    folder, report = run
    again = recipe.load(folder / "recipe.yaml").recipe
    assert recipe.digest(again) == report.provenance.recipe_sha256


def test_the_saved_logits_are_those_of_the_saved_model(run, sentiment):
    folder, report = run
    model = compressit.load(folder)
    rows = [json.loads(line) for line in (sentiment / "test.jsonl").read_text().splitlines()]
    with np.load(folder / "examples" / "checkpoint.npz") as said, torch.inference_mode():
        for place in (0, 150, 299):
            logits = model.module(**model.processor(rows[place]["sentence"], return_tensors="pt")).logits[0]
            assert np.allclose(logits.numpy(), said["logits"][place], atol=1e-5)
        accuracy = (said["logits"].argmax(-1) == said["labels"]).mean()
    assert next(r.value for r in report.artifacts[0].readings if r.metric == "accuracy") == pytest.approx(accuracy)


def test_zeros_outlived_the_training(run):
    folder, _ = run
    held = load_file(folder / "checkpoint" / "model.safetensors")
    weights = [value for name, value in held.items() if "encoder" in name and value.dim() == 2]
    assert sum(int((value == 0).sum()) for value in weights) >= 0.5 * sum(value.numel() for value in weights)


def test_a_result_that_was_changed_does_not_load(run, tmp_path):
    folder, _ = run
    copy = shutil.copytree(folder, tmp_path / "copy")
    (copy / "checkpoint" / "config.json").write_text("{}")
    with pytest.raises(IntegrityError, match=r"checkpoint/config\.json"):
        compressit.load(copy)
    with pytest.raises(IntegrityError, match="not a finished result"):
        compressit.load(tmp_path)
    for other in ("nowhere", "onnx"):
        with pytest.raises((IntegrityError, RecipeError)):
            compressit.load(folder / other)
    assert compressit.load(folder / "checkpoint").task == "text-classification"


def test_a_step_that_fails_publishes_nothing_and_names_itself(text, tmp_path, sentiment):
    model = shutil.copytree(sentiment / "model", tmp_path / "model")
    held = load_file(model / "model.safetensors")
    held["bert.encoder.layer.0.output.dense.weight"][0, 0] = 1e30
    from safetensors.torch import save_file

    save_file(held, model / "model.safetensors", metadata={"format": "pt"})
    file = tmp_path / "r.yaml"
    file.write_text(
        f"name: broken\ntask: text-classification\nmodel: {model}\nsteps: [{{step: cast, dtype: float16}}]\n"
    )
    with pytest.raises(StepError, match=r"step 1 \(cast\): .*float16"):
        compressit.apply(file, tmp_path / "out")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["model", "r.yaml"]


def test_a_quantized_model_is_not_compressed_again(run, tmp_path):
    file = tmp_path / "r.yaml"
    file.write_text(f"name: once\ntask: text-classification\nmodel: {run[0] / 'checkpoint'}\nsteps: [quantize_rtn]\n")
    compressit.apply(file, tmp_path / "once")
    file.write_text(
        f"name: twice\ntask: text-classification\nmodel: {tmp_path / 'once' / 'checkpoint'}\nsteps: [cast]\n"
    )
    with pytest.raises(RecipeError, match="is quantized already"):
        compressit.apply(file, tmp_path / "twice")
