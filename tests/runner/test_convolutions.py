"""A ResNet from recipe to report: cut, trained, exported, and counted in pictures."""

import pytest

import compressit
from compressit.model import counting
from tests import tiny

RECIPE = """\
name: pictures
task: image-classification
model: {model}
dataset: {{path: "demo:digits", train: "train[:64]", calibration: "train[:32]", evaluation: "test[:48]"}}
steps:
  - {{step: drop_layers, keep: 2}}
  - {{step: prune_channels, sparsity: 0.5, budget: multiplications, multiple: 4}}
  - {{step: distill, epochs: 1}}
exports:
  - {{export: onnx, weights: int8}}
metrics: [accuracy, agreement, size]
targets:
  - {{metric: size, max_ratio: 0.6, artifact: checkpoint}}
"""


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    folder = tmp_path_factory.mktemp("pictures")
    tiny.save("resnet", folder / "model")
    (folder / "recipe.yaml").write_text(RECIPE.format(model=folder / "model"))
    return folder, compressit.apply(folder / "recipe.yaml", output=folder / "run")


def test_what_ships_is_what_was_cut(run):
    folder, report = run
    assert report.exit_code == 0
    checkpoint, onnx = report.artifacts
    whole, left = (
        counting.multiplications(folder / place, "image-classification") for place in ("model", "run/checkpoint")
    )
    assert checkpoint.multiplications == onnx.multiplications == pytest.approx(left / whole)
    assert left / whole < 0.5
    assert onnx.notes["activations"] == "static", "as suits convolutions, where the recipe does not say"
    assert "by the ranges that calibration data had" in (folder / "run" / "report.md").read_text()
    opened = compressit.load(folder / "run")
    assert opened.module.config.depths == [1, 1]
    assert not report.steps[1].notes["opens_in_plain_transformers"]
    assert report.steps[1].notes["multiplications_left"] <= 0.5
    # What was trained afterwards has the same shapes.
    assert opened.module.num_parameters() == report.steps[1].parameters


def test_the_report_and_the_card_say_what_opens_what_config_json_has_no_words_for(run):
    folder, report = run
    assert [artifact.plain for artifact in report.artifacts] == [False, True]
    said = "compressit.load(folder) does, given the run's folder or this one in it"
    assert said in (folder / "run" / "report.md").read_text()
    assert "compressit.load(folder) does" in (folder / "run" / "report.html").read_text()
    card = (folder / "run" / "checkpoint" / "README.md").read_text()
    assert card.startswith("---\nlibrary_name: compressit\n")
    assert "model = compressit.load(folder)" in card
    assert compressit.load(folder / "run" / "checkpoint").module.num_parameters() == report.steps[1].parameters
    card = (folder / "run" / "onnx" / "README.md").read_text()
    assert card.startswith("---\nlibrary_name: onnxruntime\n")
    assert "compressit.load" not in card
