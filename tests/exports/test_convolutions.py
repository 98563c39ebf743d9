"""Files of convolutional classifiers that were cut down."""

import json

import numpy as np
import pytest
import torch

from compressit import data, exports, runtimes, weights
from compressit import model as models
from compressit.progress import Silent
from compressit.steps import StepContext, load
from tests import tiny
from tests.exports.conftest import digits

CUTS = {"resnet": "prune_channels", "convnext": "prune_ffn"}

FORMS = [("onnx", {}), ("onnx", {"weights": "int8"}), ("onnx", {"weights": "int8", "activations": "dynamic"}),
         ("openvino", {}), ("openvino", {"weights": "int8"})]  # fmt: skip


def cut(name, scratch):
    """Build a model and cut its blocks down, some more than others."""
    # Nothing learned, drawn by chance: blocks that add much would make much of what integers lose.
    more = {"layer_scale_init_value": 0.01} if name == "convnext" else {}
    model = models.Model(tiny.build(name, **more), tiny.processor(name), tiny.task(name), name)
    step = load(CUTS[name])
    config = step.Config(step=CUTS[name], sparsity=0.4, importance="magnitude", refit=False)
    step.run(model, config, StepContext(None, None, None, "cpu", 0, Silent(), scratch))
    return model


@pytest.mark.parametrize(("export", "fields"), FORMS)
@pytest.mark.parametrize("name", CUTS)
def test_a_file_says_what_the_checkpoint_says(name, export, fields, tmp_path):
    model, rows, form = cut(name, tmp_path / "scratch"), digits(tmp_path), exports.load(export)
    batches = [batch for _, batch in data.batches(rows.select(range(24)), model, 8)]
    config = form.Config(export=export, **fields)
    notes = form.run(model, config, tmp_path, batches, lambda count: data.singles(rows, model, count))
    if export == "onnx" and fields:
        assert notes["activations"] == fields.get("activations", "static")
    session = runtimes.load(config.runtime).open(tmp_path, model.task, "cpu")
    for batch in batches:
        inputs = {key: value for key, value in batch.items() if key != "labels"}
        with torch.no_grad():
            wanted = model.module(**inputs).logits.numpy()
        said = session({key: value.numpy() for key, value in inputs.items()})
        spread = wanted.std()
        assert np.abs(said - wanted).max() < (0.5 if fields else 1e-3) * spread


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        *dict.fromkeys(tiny.CONVOLUTIONS, "static").items(),
        ("vit", "dynamic"),
        ("beit", "dynamic"),
        ("bert", "dynamic"),
        ("wav2vec2", "static"),
        ("wavlm", "static"),
        ("ast", "dynamic"),
    ],
)
def test_ranges_are_found_beforehand_where_a_model_convolves(name, kind, tmp_path):
    tiny.save(name, tmp_path)
    config = exports.load("onnx").Config
    table = weights.read(tmp_path)
    assert config(export="onnx", weights="int8").settled(table).activations == kind
    assert config(export="onnx", weights="int8").settled(None).activations == "auto"
    for other in ("dynamic", "static"):
        assert config(export="onnx", weights="int8", activations=other).settled(table).activations == other


RECIPE = """\
name: pictures
task: image-classification
model: {model}
dataset: {{path: "demo:digits", calibration: "train[:32]", evaluation: "test[:48]"}}
exports:
  - {{export: onnx, weights: int8}}
  - {{export: onnx, name: plain}}
"""


def test_the_plan_says_which_and_asks_for_calibration_data(tmp_path, write, cli):
    tiny.save("resnet", tmp_path / "model")
    text = RECIPE.format(model=tmp_path / "model")
    said = json.loads(cli("plan", write(text), "--json").stdout)
    assert said["decided_by_the_model"] == {"onnx": {"activations": "static"}, "plain": {}}
    assert "export onnx, activations: static" in cli("plan", write(text)).stdout
    without = text.replace('calibration: "train[:32]", ', "")
    refused = cli("plan", write(without))
    assert refused.returncode == 2
    assert "onnx needs calibration data for such a model (activations: static)" in refused.stderr
    assert "or choose activations yourself" in " ".join(refused.stderr.split())
    assert cli("plan", write(without.replace("int8}", "int8, activations: dynamic}"))).returncode == 0
    # Who only looks at the recipe doesn't know the model.
    assert cli("validate", write(without)).returncode == 0
