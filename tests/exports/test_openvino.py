"""OpenVINO: any batch and length, checked against the checkpoint, int8, and served where compressit is not."""

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from transformers import AutoTokenizer

from compressit import model as models
from compressit.errors import StepError
from compressit.exports import openvino
from compressit.runtimes import load
from tests.exports.conftest import checkpoint_said, file_said, python


def config(**fields):
    return openvino.Config(export="openvino", **fields)


KINDS = {"float32": {}, "bfloat16": {"compute": "bfloat16"}, "int8": {"weights": "int8", "samples": 50}}


@pytest.fixture(scope="module")
def exported(classifier, examples, calibration, tmp_path_factory):
    """Folders of files of each kind, with the notes of each."""
    made = {}
    for kind, fields in KINDS.items():
        folder = tmp_path_factory.mktemp(kind)
        made[kind] = folder, openvino.run(classifier, config(**fields), folder, examples, calibration)
    return made


@pytest.mark.parametrize("size", [1, 3, 64])
def test_every_batch_size_and_length_gives_the_checkpoints_logits(size, exported, classifier, rows):
    folder, notes = exported["float32"]
    assert notes["max_difference"] < 1e-4
    wanted = checkpoint_said(classifier, rows, size)
    assert np.abs(file_said("openvino", folder, classifier, rows, size) - wanted).max() < 1e-4


def test_int8_is_smaller_and_agrees(exported, classifier, rows):
    said = {kind: file_said("openvino", folder, classifier, rows) for kind, (folder, _) in exported.items()}
    assert (said["int8"].argmax(-1) == said["float32"].argmax(-1)).mean() > 0.98
    assert np.abs(said["int8"] - said["float32"]).max() > 1e-3
    facts = {kind: load("openvino").inspect(folder) for kind, (folder, _) in exported.items()}
    assert facts["int8"].dtypes["int8"] > 0.8 * facts["int8"].parameters
    weights = sum(parameter.numel() for parameter in classifier.module.parameters())
    assert facts["float32"].parameters == facts["int8"].parameters == weights
    assert facts["float32"].nonzero > 0.99 * weights
    held = {kind: (folder / "openvino_model.bin").stat().st_size for kind, (folder, _) in exported.items()}
    assert held["int8"] < 0.4 * held["float32"]
    assert facts["int8"].bytes == held["int8"] + (exported["int8"][0] / "openvino_model.xml").stat().st_size


def test_zeros_stay_zero_and_are_counted(classifier, examples, calibration, tmp_path):
    pruned = models.load(Path(classifier.source), "text-classification")
    weight = pruned.module.bert.encoder.layer[1].output.dense.weight
    weight.data[:, ::2] = 0
    openvino.run(pruned, config(weights="int8", samples=10), tmp_path, examples, calibration)
    found = load("openvino").inspect(tmp_path)
    assert found.parameters - found.nonzero >= weight.numel() // 2


def test_what_it_computes_in_is_what_the_file_says(exported, classifier, rows):
    library = load("openvino").library()
    for kind, wanted in (("float32", "f32"), ("int8", "f32"), ("bfloat16", "bf16")):
        folder, notes = exported[kind]
        assert notes["compute"] == ("bfloat16" if wanted == "bf16" else "float32")
        graph = library.Core().read_model(str(folder / "openvino_model.xml"))
        assert load("openvino").precision(graph) == wanted
        assert load("openvino").inspect(folder).dtypes.keys() == (
            {"float32", "int8"} if kind == "int8" else {"float32"}
        )
    said = {kind: file_said("openvino", exported[kind][0], classifier, rows) for kind in ("float32", "bfloat16")}
    spread = said["float32"].std(0).mean()
    # A processor without bfloat16 computes in float32 where it is asked for bfloat16.
    assert np.abs(said["bfloat16"] - said["float32"]).max() < 0.1 * spread


def test_an_answer_stays_when_the_next_one_comes(exported, classifier, rows):
    session = load("openvino").open(exported["float32"][0], "text-classification", "cpu")
    inputs = [dict(classifier.processor([text], return_tensors="np")) for text in ("good film", "bad film")]
    first = session(inputs[0])
    kept = first.copy()
    session(inputs[1])
    assert np.array_equal(first, kept)


def test_it_runs_on_the_cpu_whatever_is_asked_for_and_not_from_disk(exported, tmp_path):
    assert load("openvino").place("cuda") == "cpu"
    with pytest.raises(StepError, match="in memory"):
        load("openvino").open(exported["float32"][0], "text-classification", "cpu", scratch=tmp_path)


def test_the_model_is_left_as_it_was(classifier, examples, exported):
    inputs = {name: value for name, value in examples[1].items() if name != "labels"}
    fresh = models.load(Path(classifier.source), "text-classification")
    with torch.inference_mode():
        assert torch.equal(classifier.module(**inputs).logits, fresh.module(**inputs).logits)


def test_images_and_16_bit_models_export(exported_tiny):
    model, _, notes = exported_tiny(openvino, config(weights="int8"), "vit", torch.bfloat16)
    assert notes["agreement"] > 0.7
    assert model.module.dtype == torch.bfloat16


def test_starts_and_ends_of_answers_export(exported_tiny):
    model, folder, notes = exported_tiny(openvino, config(weights="int8"), "bert-qa")
    assert notes["agreement"] > 0.7
    inputs = dict(model.processor("who is it", "the king was a friend", return_tensors="np"))
    said = load("openvino").open(folder, model.task, "cpu")(inputs)
    assert said.shape == (1, inputs["input_ids"].shape[1], 2)
    assert not np.array_equal(said[..., 0], said[..., 1])


@pytest.mark.parametrize("name", ["deberta-v2", "modernbert"])
def test_other_families_export(name, exported_tiny):
    _, folder, notes = exported_tiny(openvino, config(weights="int8", samples=20), name)
    assert notes["agreement"] > 0.7
    found = load("openvino").inspect(folder)
    assert found.dtypes["int8"] > 0.8 * found.parameters


def test_calibration_data_is_asked_for_where_activations_are_quantized():
    assert config().needs() == frozenset()
    assert config(compute="bfloat16").needs() == frozenset()
    assert {*config(weights="int8").needs()} == {"calibration"}


def test_nobody_is_told_that_it_is_used():
    code = (
        "import sys\nfrom compressit.runtimes import load\nload('openvino').library()\n"
        "with load('openvino').untold():\n    import nncf\n"
        "from openvino.tools.ovc import telemetry_utils\n"
        "print('openvino_telemetry' in sys.modules, telemetry_utils.tm.__name__)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == "False openvino.tools.ovc.telemetry_stub"


PLAIN = """
import openvino
core = openvino.Core()
graph = core.read_model(folder + "/openvino_model.xml")
model = core.compile_model(graph, "CPU", {"INFERENCE_PRECISION_HINT": "f32"})
names = [port.get_any_name() for port in graph.inputs]
print(json.dumps(model({name: tokens[name] for name in names})["logits"].tolist()))
"""


@pytest.mark.parametrize("kind", ["float32", "int8"])
def test_plain_openvino_serves_it_where_compressit_is_not(kind, exported):
    folder, _ = exported[kind]
    texts = ["the film was good", "dull and very poor music with a dreary plot"]
    said = python(PLAIN, folder, json.dumps(texts))
    tokens = AutoTokenizer.from_pretrained(folder)(texts, padding=True, return_tensors="np")
    wanted = load("openvino").open(folder, "text-classification", "cpu")(dict(tokens))
    assert np.allclose(json.loads(said), wanted, atol=1e-5)


def test_the_lines_of_its_card_open_it(exported):
    for folder, _ in exported.values():
        assert python(load("openvino").OPENING + "print(len(model.inputs))", folder, '["good"]').split() == ["2"]
