"""ONNX: any batch and length, checked against the checkpoint, int8, and served where compressit is not."""

import copy
import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from transformers import AutoTokenizer

from compressit import data
from compressit import model as models
from compressit.data import DatasetSpec
from compressit.errors import StepError
from compressit.exports import onnx
from compressit.runtimes import load
from tests import tiny


def config(**fields):
    return onnx.Config(export="onnx", **fields)


@pytest.fixture(scope="module")
def classifier(sentiment):
    return models.load(sentiment / "model", "text-classification")


@pytest.fixture(scope="module")
def rows(sentiment, classifier):
    spec = DatasetSpec(path=str(sentiment), evaluation="test.jsonl", columns={"text": "sentence"})
    return data.rows(spec, "test.jsonl", "text-classification", classifier.module.config.id2label, sentiment)


@pytest.fixture(scope="module")
def examples(rows, classifier):
    return [
        batch for part in (rows.select([0]), rows.select(range(40))) for _, batch in data.batches(part, classifier, 8)
    ]


def run_all(session, model, rows, size):
    said = np.empty((len(rows), 2), dtype=np.float32)
    for places, batch in data.batches(rows, model, size):
        said[places] = session({name: value.numpy() for name, value in batch.items() if name != "labels"})
    return said


@pytest.fixture(scope="module")
def exported(classifier, examples, tmp_path_factory):
    """Folders of a float32 and an int8 file, with the notes of each."""
    made = {}
    for weights in ("float32", "int8"):
        folder = tmp_path_factory.mktemp(weights)
        made[weights] = folder, onnx.run(classifier, config(weights=weights), folder, examples)
    return made


@pytest.mark.parametrize("size", [1, 3, 64])
def test_every_batch_size_and_length_gives_the_checkpoints_logits(size, exported, classifier, rows):
    folder, notes = exported["float32"]
    assert notes["max_difference"] < 1e-4
    found = run_all(load("onnxruntime").open(folder, "text-classification", "cpu"), classifier, rows, size)
    with torch.inference_mode():
        wanted = run_all(lambda b: classifier.module(**{k: torch.from_numpy(v) for k, v in b.items()}).logits.numpy(),
                         classifier, rows, size)  # fmt: skip
    assert np.abs(found - wanted).max() < 1e-4


def test_int8_is_smaller_and_agrees(exported, classifier, rows):
    sizes = {name: (folder / onnx.FILE).stat().st_size for name, (folder, _) in exported.items()}
    runs = {
        name: run_all(load("onnxruntime").open(folder, "text-classification", "cpu"), classifier, rows, 16)
        for name, (folder, _) in exported.items()
    }
    assert (runs["int8"].argmax(-1) == runs["float32"].argmax(-1)).mean() > 0.98
    facts = {name: load("onnxruntime").inspect(folder) for name, (folder, _) in exported.items()}
    assert facts["int8"].dtypes["int8"] > 0.8 * facts["int8"].parameters
    assert facts["int8"].parameters == pytest.approx(facts["float32"].parameters, rel=0.02)
    # A model this small is half graph.
    assert sizes["int8"] < 0.7 * sizes["float32"]


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


def test_images_and_16_bit_models_export(tmp_path):
    tiny.save("vit", tmp_path / "model")
    model = models.load(tmp_path / "model", "image-classification")
    models.cast(model.module, torch.bfloat16)
    labels = {index: str(index) for index in range(10)}
    rows = data.rows(
        DatasetSpec(path="demo:digits", evaluation="test"), "test[:20]", "image-classification", labels, tmp_path
    )
    examples = [batch for _, batch in data.batches(rows, model, 8)]
    (tmp_path / "onnx").mkdir()
    notes = onnx.run(model, config(weights="int8"), tmp_path / "onnx", examples)
    assert notes["agreement"] > 0.7
    assert model.module.dtype == torch.bfloat16


def test_a_file_that_computes_something_else_is_refused(classifier, examples, tmp_path, monkeypatch):
    """The graph of another model stands in for an exporter's mistranslation."""
    other = replace(classifier, module=copy.deepcopy(classifier.module))
    other.module.classifier.weight.data.neg_()
    trace = onnx._trace
    monkeypatch.setattr(onnx, "_trace", lambda module, inputs: trace(other.module, inputs))
    with pytest.raises(StepError, match="differ from the checkpoint's"):
        onnx.run(classifier, config(), tmp_path, examples)


PLAIN = """
import sys
class Block:
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] == "compressit":
            raise ImportError(name)
sys.meta_path.insert(0, Block())
import json, onnxruntime, transformers
folder, texts = sys.argv[1], json.loads(sys.argv[2])
tokens = transformers.AutoTokenizer.from_pretrained(folder)(texts, padding=True, return_tensors="np")
session = onnxruntime.InferenceSession(folder + "/model.onnx")
names = [value.name for value in session.get_inputs()]
print(json.dumps(session.run(["logits"], {name: tokens[name] for name in names})[0].tolist()))
"""


@pytest.mark.parametrize("weights", ["float32", "int8"])
def test_plain_onnxruntime_serves_it_where_compressit_is_not(weights, exported):
    folder, _ = exported[weights]
    texts = ["the film was good", "dull and very poor music with a dreary plot"]
    done = subprocess.run(
        [sys.executable, "-c", PLAIN, folder, json.dumps(texts)], capture_output=True, text=True, check=True
    )
    tokens = AutoTokenizer.from_pretrained(folder)(texts, padding=True, return_tensors="np")
    wanted = load("onnxruntime").open(folder, "text-classification", "cpu")(dict(tokens))
    assert np.allclose(json.loads(done.stdout), wanted, atol=1e-5)
