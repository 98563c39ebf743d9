"""quantize_awq: what a user gains by it on a model that has learned, alone and with GPTQ."""

import pytest
import torch

from compressit import model as models
from compressit.data import DatasetSpec, rows
from compressit.data.walking import samples
from compressit.progress import Silent
from compressit.steps import StepContext, load

TASK = "text-generation"


@pytest.fixture
def loss_after(storyteller, tmp_path):
    """Run a step, and give the model's loss on the test text."""
    spec = DatasetSpec(path=str(storyteller), evaluation="test.txt", max_length=32)
    calibration, unseen = (rows(spec, name, TASK, {}, storyteller) for name in ("train.txt[:60]", "test.txt[:60]"))

    def run(name, **fields):
        step = load(name)
        model = models.load(storyteller / "model", TASK)
        context = StepContext(None, calibration, None, "cpu", 0, Silent(), tmp_path / f"{name}-{fields}", 32)
        step.run(model, step.Config(step=name, **fields), context)
        with torch.no_grad():
            found = [model.module(**batch, labels=batch["input_ids"]).loss for batch in samples(unseen, model, 32)]
        return float(torch.stack(found).mean())

    return run


def test_it_loses_less_than_rounding_to_nearest_and_still_less_with_gptq(loss_after):
    some = {"bits": 3, "group_size": 32}
    nearest, scaled = loss_after("quantize_rtn", **some), loss_after("quantize_awq", **some)
    both = loss_after("quantize_awq", **some, rounding="gptq")
    assert both < scaled < nearest


def test_what_is_stored_computes_what_was_in_memory_and_opens_as_plain_integers(opened, context, logits, tmp_path):
    for name, fields in (("mixtral", {}), ("qwen2", {"rounding": "gptq", "symmetric": False})):
        model = opened(name)
        given, step = context(model, count=16), load("quantize_awq")
        notes = step.run(model, step.Config(step="quantize_awq", group_size=16, **fields), given)
        assert notes["scaled"] == notes["layers"] == len(model.matrices())
        before = logits(model, given)
        model.save(tmp_path / name)
        assert torch.equal(logits(models.load(tmp_path / name, model.task), given), before)


def test_only_values_are_scaled_where_norms_feed_what_is_added(opened, context):
    model = opened("bert")
    norms = {name: part.weight.clone() for name, part in model.module.named_modules() if "LayerNorm" in name}
    step = load("quantize_awq")
    notes = step.run(model, step.Config(step="quantize_awq", group_size=16), context(model))
    assert (notes["scaled"], notes["layers"]) == (4, 24)
    assert all(torch.equal(model.module.get_submodule(name).weight, weight) for name, weight in norms.items())
