"""Files of convolutional classifiers that were cut down."""

import numpy as np
import pytest
import torch

from compressit import data, exports, runtimes
from compressit import model as models
from compressit.progress import Silent
from compressit.steps import StepContext, load
from tests import tiny
from tests.exports.conftest import digits

CUTS = {"resnet": "prune_channels", "convnext": "prune_ffn"}

FORMS = [("onnx", {}), ("onnx", {"weights": "int8"}), ("onnx", {"weights": "int8", "activations": "static"}),
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
    form.run(model, config, tmp_path, batches, lambda count: data.singles(rows, model, count))
    session = runtimes.load(config.runtime).open(tmp_path, model.task, "cpu")
    for batch in batches:
        inputs = {key: value for key, value in batch.items() if key != "labels"}
        with torch.no_grad():
            wanted = model.module(**inputs).logits.numpy()
        said = session({key: value.numpy() for key, value in inputs.items()})
        spread = wanted.std()
        assert np.abs(said - wanted).max() < (0.5 if fields else 1e-3) * spread
