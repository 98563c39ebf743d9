"""Files of models that say other things than one label of each example."""

import pytest
import torch

from compressit import data, exports, runtimes
from compressit.steps import _answers, _classes
from tests import heard
from tests.exports.conftest import paired_rows, tagged_rows


@pytest.mark.parametrize(("export", "weights"), [("onnx", "float32"), ("openvino", "int8")])
def test_words_are_tagged_as_by_the_checkpoint(export, weights, exported_tiny):
    module = exports.load(export)
    config = module.Config(export=export, weights=weights)
    model, folder, notes = exported_tiny(module, config, "bert-tags")
    assert notes["agreement"] == 1 if weights == "float32" else notes["agreement"] > 0.8
    session = runtimes.load(config.runtime).open(folder, model.task, "cpu")
    for _, batch in data.batches(tagged_rows(), model, 8):
        labels = batch.pop("labels")
        said = torch.from_numpy(session({name: value.numpy() for name, value in batch.items()}))
        with torch.no_grad():
            wanted = _answers.said(model, batch)
        found, wanted = (_classes.scored(model.task, each, labels)[0] for each in (said, wanted))
        if weights == "float32":
            assert torch.allclose(found, wanted, atol=1e-4)
        else:
            assert (found.argmax(-1) == wanted.argmax(-1)).float().mean() > 0.7


@pytest.mark.parametrize(("export", "weights"), [("onnx", "int8"), ("openvino", "float32")])
def test_texts_have_the_vectors_of_the_checkpoint(export, weights, exported_tiny):
    module = exports.load(export)
    config = module.Config(export=export, weights=weights)
    model, folder, notes = exported_tiny(module, config, "bert-pairs")
    assert notes["cosine"] > (0.95 if weights == "int8" else 0.99999)
    session = runtimes.load(config.runtime).open(folder, model.task, "cpu")
    for _, batch in data.batches(paired_rows(), model, 8):
        batch.pop("labels")
        said = torch.from_numpy(session({name: value.numpy() for name, value in batch.items()}))
        with torch.no_grad():
            wanted = _answers.said(model, batch)
        assert said.shape == wanted.shape
        assert torch.cosine_similarity(said, wanted).mean() > (0.95 if weights == "int8" else 0.99999)


@pytest.mark.parametrize(
    ("export", "weights", "name"),
    [("onnx", "float32", "ast"), ("onnx", "int8", "wav2vec2"), ("openvino", "int8", "hubert")],
)
def test_sounds_of_any_length_are_heard_as_by_the_checkpoint(export, weights, name, exported_tiny):
    module = exports.load(export)
    config = module.Config(export=export, weights=weights)
    model, folder, notes = exported_tiny(module, config, name)
    assert notes["agreement"] > (0.8 if weights == "int8" else 0.99)
    session = runtimes.load(config.runtime).open(folder, model.task, "cpu")
    for size in (1, 5):
        for _, batch in data.batches(heard.rows(10, 7), model, size):
            batch.pop("labels")
            said = session({key: value.numpy() for key, value in batch.items()})
            with torch.no_grad():
                wanted = model.module(**batch).logits
            far = (torch.from_numpy(said) - wanted).abs().max()
            assert far < (0.3 if weights == "int8" else 1e-4)
