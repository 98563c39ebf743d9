"""Files of convolutional classifiers, which need no anatomy to be trained and exported; cutting them is refused."""

import numpy as np
import pytest
import torch
import transformers

from compressit import data, exports, runtimes
from compressit import model as models
from compressit.errors import CompressitError
from compressit.steps import load
from tests import tiny
from tests.exports.conftest import digits

CONFIGS = {
    "resnet": ("ResNet", {"embedding_size": 8, "hidden_sizes": [8, 16], "depths": [1, 2], "layer_type": "basic"}),
    "convnext": ("ConvNext", {"patch_size": 2, "hidden_sizes": [8, 16], "depths": [1, 2], "num_stages": 2}),
}


def built(name):
    prefix, fields = CONFIGS[name]
    torch.manual_seed(0)
    config = getattr(transformers, f"{prefix}Config")(**fields, num_labels=10)
    module = getattr(transformers, f"{prefix}ForImageClassification")(config).eval()
    return models.Model(module, tiny.processor("vit"), "image-classification", name)


@pytest.mark.parametrize("weights", ["float32", "int8"])
@pytest.mark.parametrize("export", ["onnx", "openvino"])
@pytest.mark.parametrize("name", CONFIGS)
def test_a_file_says_what_the_checkpoint_says(name, export, weights, tmp_path):
    model, rows, form = built(name), digits(tmp_path), exports.load(export)
    batches = [batch for _, batch in data.batches(rows.select(range(24)), model, 8)]
    config = form.Config(export=export, weights=weights)
    form.run(model, config, tmp_path, batches, lambda count: data.singles(rows, model, count))
    session = runtimes.load(config.runtime).open(tmp_path, model.task, "cpu")
    for batch in batches:
        inputs = {key: value for key, value in batch.items() if key != "labels"}
        with torch.no_grad():
            wanted = model.module(**inputs).logits.numpy()
        said = session({key: value.numpy() for key, value in inputs.items()})
        spread = wanted.std()
        assert np.abs(said - wanted).max() < (1e-3 if weights == "float32" else 0.5) * spread


def test_cutting_one_names_what_is_missing():
    step = load("prune_ffn")
    with pytest.raises(CompressitError, match="anatomy of model type 'resnet' is not known"):
        step.units(built("resnet").module)
