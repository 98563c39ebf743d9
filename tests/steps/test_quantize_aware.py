"""Training as int8, and an export that rounds by the same scales."""

import json

import numpy as np
import pytest
import torch

import compressit
from compressit import data, exports
from compressit import model as models
from compressit.algorithms import int8
from compressit.errors import RecipeError
from compressit.model import ranges
from compressit.steps import quantize_aware

RECIPE = """\
name: aware
task: text-classification
model: {model}
dataset:
  path: {data}
  train: train.jsonl
  calibration: train.jsonl[:64]
  evaluation: test.jsonl
  columns: {{text: sentence}}
steps:
  - step: quantize_aware
{more}
"""


def settings(**fields):
    return quantize_aware.Config(step="quantize_aware", **{"epochs": 1, "batch_size": 16, "samples": 16, **fields})


def batch(model, given, size=8):
    _, found = next(data.batches(given.train, model, size))
    return {name: value for name, value in found.items() if name != "labels"}


@pytest.mark.parametrize(("low", "high"), [(-1.0, 3.0), (0.5, 2.0), (-2.0, -1.0), (0.0, 0.0)])
def test_numbers_become_what_eight_bits_hold(low, high):
    x = 2 * torch.randn(97, generator=torch.Generator().manual_seed(0))
    step, zero = int8.scale(low, high)
    expected = (np.clip(np.round(x.numpy() / step) + zero, 0, 255) - zero) * step
    assert np.allclose(int8.rounded(x, low, high), expected, atol=step * 1e-3)
    assert np.allclose(int8.through(x, low, high), expected, atol=step * 1e-3)
    assert float(int8.rounded(torch.zeros(1), low, high)) == 0, "padding and pruned features stay zero"


def test_weights_become_what_eight_bits_hold_of_each_output():
    weight = torch.randn(5, 7, generator=torch.Generator().manual_seed(0)) * torch.tensor([[1.0], [9], [0.1], [3], [0]])
    step = weight.abs().amax(1, keepdim=True).clamp(min=1e-12) / 127
    expected = (weight / step).round() * step
    assert torch.allclose(int8.rounded_rows(weight), expected, atol=1e-6)
    assert torch.allclose(int8.through_rows(weight), expected, atol=1e-6)


def test_gradients_pass_the_rounding_and_stop_at_the_ends():
    x = torch.tensor([-5.0, 0.3, 5.0], requires_grad=True)
    int8.rounded(x, -1.0, 1.0).sum().backward()
    assert x.grad.tolist() == [0, 1, 0]


def test_ranges_are_the_mean_over_rows_of_what_comes_in(opened, context):
    model = opened("bert")
    rows = list(data.singles(context(model).calibration, model, 4))
    inputs = [{name: value for name, value in row.items() if name != "labels"} for row in rows]
    found = ranges.measured(model.module, inputs)
    assert found.keys() == ranges.linears(model.module).keys()
    with torch.inference_mode():
        states = [
            model.module.bert.embeddings(**{k: v for k, v in row.items() if k != "attention_mask"}) for row in inputs
        ]
    low, high = (np.mean([float(getattr(state, end)()) for state in states]) for end in ("min", "max"))
    for name in ("query", "key", "value"):
        assert found[f"bert.encoder.layer.0.attention.self.{name}"] == pytest.approx((low, high), abs=1e-5)


def test_a_model_that_int8_breaks_learns_to_live_with_it(sentiment, opened, context):
    """Weights far beyond the others leave no room for those on eight bits of a row."""
    model, given = opened("bert"), context(opened("bert"), count=400)
    broken(model)
    rows = list(data.singles(given.calibration, model, 16))
    before = ranges.measured(model.module, [{k: v for k, v in r.items() if k != "labels"} for r in rows])
    lost = right(model, given, before)
    whole = right(model, given, {})
    quantize_aware.run(model, settings(epochs=3, learning_rate=1e-3), given)
    assert lost < whole - 0.1
    assert right(model, given, model.ranges) > whole - 0.05


def test_the_export_computes_what_training_saw(opened, context, tmp_path):
    model, given = opened("bert"), context(opened("bert"))
    quantize_aware.run(model, settings(learning_rate=1e-4), given)
    inputs = batch(model, given)
    with ranges.as_int8(model.module, model.ranges), torch.inference_mode():
        trained = model.module(**inputs).logits.numpy()
    with torch.inference_mode():
        floats = model.module(**inputs).logits.numpy()
    served = run_openvino(model, tmp_path / "int8", inputs)
    assert np.abs(served - trained).max() < 0.2 * np.abs(floats - trained).max()
    held = compressit_facts(tmp_path / "int8")
    assert held["int8"] > 0.9 * model.module.num_parameters()


def test_the_checkpoint_keeps_the_ranges(opened, context, tmp_path):
    model = opened("bert")
    quantize_aware.run(model, settings(), context(model))
    model.save(tmp_path / "saved")
    assert models.load(tmp_path / "saved", model.task).ranges == model.ranges
    assert not json.loads((tmp_path / "saved" / "config.json").read_text()).get("quantization_config")


@pytest.mark.parametrize(
    ("more", "said"),
    [
        ("  - step: prune_magnitude\n    sparsity: 0.5", "prune_magnitude would undo the ranges of activations"),
        ("exports:\n  - export: onnx", "onnx can't hold the ranges of activations"),
    ],
)
def test_what_would_lose_the_ranges_is_refused(more, said, sentiment, write):
    with pytest.raises(RecipeError, match=said):
        compressit.apply(write(RECIPE.format(model=sentiment / "model", data=sentiment, more=more)))


def broken(model):
    """Give the classifier one huge weight in each row, for a feature that is always zero; others round to 0."""
    with torch.no_grad():
        pooler, classifier = model.module.bert.pooler.dense, model.module.classifier
        pooler.weight[0] = pooler.bias[0] = 0
        classifier.weight[:, 0] = 127 * 2.1 * classifier.weight.abs().amax(1)


def right(model, given, found):
    """Count the right answers as int8 by these ranges, or as float without any."""
    from contextlib import nullcontext

    count = 0
    with ranges.as_int8(model.module, found) if found else nullcontext(), torch.inference_mode():
        for _, some in data.batches(given.train, model, 32):
            labels = some.pop("labels")
            count += int((model.module(**some).logits.argmax(-1) == labels).sum())
    return count / len(given.train)


def run_openvino(model, folder, inputs):
    from compressit import runtimes

    folder.mkdir()
    export = exports.load("openvino")
    config = export.Config(export="openvino", weights="int8")
    labelled = {**inputs, "labels": torch.zeros(len(inputs["input_ids"]), dtype=torch.long)}
    export.run(model, config, folder, [labelled], lambda count: iter(()))
    session = runtimes.load("openvino").open(folder, model.task, "cpu")
    return session({name: value.numpy() for name, value in inputs.items()})


def compressit_facts(folder):
    from compressit import runtimes

    return runtimes.load("openvino").inspect(folder).dtypes
