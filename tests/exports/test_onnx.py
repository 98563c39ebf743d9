"""ONNX: any batch and length, checked against the checkpoint, int8, and served where compressit is not."""

import copy
import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnxruntime
import pytest
import torch
from transformers import AutoTokenizer

from compressit import model as models
from compressit.errors import StepError
from compressit.exports import onnx
from compressit.runtimes import load
from tests.exports.conftest import checkpoint_said, file_said, python


def config(**fields):
    return onnx.Config(export="onnx", **fields)


KINDS = {
    "float32": {},
    "dynamic": {"weights": "int8"},
    "static": {"weights": "int8", "activations": "static", "samples": 50},
}


@pytest.fixture(scope="module")
def exported(classifier, examples, calibration, tmp_path_factory):
    """Folders of files of each kind, with the notes of each."""
    made = {}
    for kind, fields in KINDS.items():
        folder = tmp_path_factory.mktemp(kind)
        made[kind] = folder, onnx.run(classifier, config(**fields), folder, examples, calibration)
    return made


@pytest.mark.parametrize("size", [1, 3, 64])
def test_every_batch_size_and_length_gives_the_checkpoints_logits(size, exported, classifier, rows):
    folder, notes = exported["float32"]
    assert notes["max_difference"] < 1e-4
    wanted = checkpoint_said(classifier, rows, size)
    assert np.abs(file_said("onnxruntime", folder, classifier, rows, size) - wanted).max() < 1e-4


@pytest.mark.parametrize("kind", ["dynamic", "static"])
def test_int8_is_smaller_and_agrees(kind, exported, classifier, rows):
    assert exported[kind][1]["activations"] == kind, "what is left to a model of matrices is dynamic"
    sizes = {name: (folder / onnx.FILE).stat().st_size for name, (folder, _) in exported.items()}
    said = {name: file_said("onnxruntime", folder, classifier, rows) for name, (folder, _) in exported.items()}
    assert (said[kind].argmax(-1) == said["float32"].argmax(-1)).mean() > 0.98
    assert np.abs(said[kind] - said["float32"]).max() > 1e-3
    facts = {name: load("onnxruntime").inspect(folder) for name, (folder, _) in exported.items()}
    assert facts[kind].dtypes["int8"] > 0.8 * facts[kind].parameters
    assert facts[kind].parameters == pytest.approx(facts["float32"].parameters, rel=0.02)
    # A model this small is half graph.
    assert sizes[kind] < 0.7 * sizes["float32"]


def test_static_ranges_are_in_the_file_and_are_those_of_the_calibration_rows(exported, classifier, examples, tmp_path):
    import onnx as library

    def scales(folder):
        graph = library.load(str(folder / onnx.FILE)).graph
        taken = {node.input[1] for node in graph.node if node.op_type == "QuantizeLinear"}
        held = {each.name: library.numpy_helper.to_array(each) for each in graph.initializer}
        return {name: held[name] for name in taken}

    found = scales(exported["static"][0])
    assert len(found) > 4 * 3, "before each product with weights, of attention and of the feed-forward network"
    assert scales(exported["dynamic"][0]) == {}
    few = config(**KINDS["static"])
    onnx.run(classifier, few, tmp_path, examples, lambda count: iter([examples[0]]))
    one = scales(tmp_path)
    assert one.keys() == found.keys()
    assert sum(float(one[name]) for name in one) < sum(float(found[name]) for name in one), "one row has less range"


def test_static_is_for_int8_and_asks_for_calibration_data():
    assert {*config(**KINDS["static"]).needs()} == {"calibration"}
    assert config(weights="int8").needs() == frozenset()
    with pytest.raises(ValueError, match="activations goes with weights: int8"):
        config(activations="static")


def test_onnxruntime_does_not_fuse_sums_into_norms(exported, tmp_path):
    """Its operator for both is several times slower than the two."""
    import onnx as library
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.optimized_model_filepath = str(tmp_path / "optimized.onnx")
    options.log_severity_level = 3
    onnxruntime.InferenceSession(str(exported["float32"][0] / onnx.FILE), options)
    operators = [node.op_type for node in library.load(options.optimized_model_filepath).graph.node]
    assert operators.count("LayerNormalization") == 9
    assert "SkipLayerNormalization" not in operators


def test_a_matrix_that_layers_share_is_stored_once(exported_tiny):
    model, folder, _ = exported_tiny(onnx, config(), "albert")
    weights = sum(parameter.numel() for parameter in model.module.parameters())
    assert load("onnxruntime").inspect(folder).parameters < 1.02 * weights


def test_it_runs_on_the_cpu_where_this_onnxruntime_knows_no_gpu():
    import onnxruntime

    gpu = "CUDAExecutionProvider" in onnxruntime.get_available_providers()
    assert load("onnxruntime").place("cuda") == ("cuda" if gpu else "cpu")
    assert load("torch").place("cuda") == "cuda"


def test_the_model_is_left_as_it_was(classifier, examples, exported):
    inputs = {name: value for name, value in examples[1].items() if name != "labels"}
    fresh = models.load(Path(classifier.source), "text-classification")
    with torch.inference_mode():
        assert torch.equal(classifier.module(**inputs).logits, fresh.module(**inputs).logits)


def test_images_and_16_bit_models_export(exported_tiny):
    model, _, notes = exported_tiny(onnx, config(**KINDS["static"]), "vit", torch.bfloat16)
    assert notes["agreement"] > 0.7
    assert model.module.dtype == torch.bfloat16


def test_a_file_that_computes_something_else_is_refused(classifier, examples, tmp_path, monkeypatch):
    """The graph of another model stands in for an exporter's mistranslation."""
    other = replace(classifier, module=copy.deepcopy(classifier.module))
    other.module.classifier.weight.data.neg_()
    trace = onnx._traced
    monkeypatch.setattr(onnx, "_traced", lambda module, inputs: trace(other.module, inputs))
    with pytest.raises(StepError, match="differ from the checkpoint's"):
        onnx.run(classifier, config(), tmp_path, examples)


PLAIN = """
import onnxruntime
session = onnxruntime.InferenceSession(folder + "/model.onnx")
names = [value.name for value in session.get_inputs()]
print(json.dumps(session.run(["logits"], {name: tokens[name] for name in names})[0].tolist()))
"""


@pytest.mark.parametrize("kind", ["float32", "static"])
def test_plain_onnxruntime_serves_it_where_compressit_is_not(kind, exported):
    folder, _ = exported[kind]
    texts = ["the film was good", "dull and very poor music with a dreary plot"]
    said = python(PLAIN, folder, json.dumps(texts))
    tokens = AutoTokenizer.from_pretrained(folder)(texts, padding=True, return_tensors="np")
    wanted = load("onnxruntime").open(folder, "text-classification", "cpu")(dict(tokens))
    assert np.allclose(json.loads(said), wanted, atol=1e-5)


def test_starts_and_ends_of_answers_export(exported_tiny):
    model, folder, notes = exported_tiny(onnx, config(), "bert-qa")
    assert notes["agreement"] == 1
    inputs = dict(model.processor("who is it", "the king was a friend", return_tensors="pt"))
    with torch.inference_mode():
        said = model.module(**inputs)
    served = onnxruntime.InferenceSession(folder / "model.onnx")
    names = {value.name for value in served.get_inputs()}
    found = served.run(["start_logits", "end_logits"], {n: v.numpy() for n, v in inputs.items() if n in names})
    assert np.allclose(found[0], said.start_logits, atol=1e-4)
    assert np.allclose(found[1], said.end_logits, atol=1e-4)
    both = load("onnxruntime").open(folder, model.task, "cpu")({n: v.numpy() for n, v in inputs.items()})
    assert np.array_equal(both, np.stack(found, -1))


def test_the_lines_of_its_card_open_it(exported):
    for folder, _ in exported.values():
        assert python(load("onnxruntime").OPENING + "print(len(session.get_inputs()))", folder, '["good"]').split() == [
            "2"
        ]
