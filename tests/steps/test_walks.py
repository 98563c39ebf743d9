"""What a user gains by the options of the steps that walk: on a model that has learned, on text it has not seen."""

import pytest
import torch
from pydantic import ValidationError

from compressit import model as models
from compressit.data import DatasetSpec, rows
from compressit.data.walking import samples
from compressit.progress import Silent
from compressit.steps import StepContext, load

TASK = "text-generation"


@pytest.fixture
def loss_after(storyteller, tmp_path):
    """Run a step, and a refit after it if asked, and give the model's loss on the test text."""
    spec = DatasetSpec(path=str(storyteller), evaluation="test.txt", max_length=32)
    calibration, unseen = (rows(spec, name, TASK, {}, storyteller) for name in ("train.txt[:60]", "test.txt[:60]"))

    def opened(path=None):
        return models.load(storyteller / "model", TASK)

    def run(name, then=None, **fields):
        model = opened()
        for step, own in ((name, fields), *([] if then is None else [("refit", then)])):
            scratch = tmp_path / f"{step}-{fields}"
            context = StepContext(None, calibration, opened, "cpu", 0, Silent(), scratch, 32)
            load(step).run(model, load(step).Config(step=step, **own), context)
        with torch.no_grad():
            found = [model.module(**batch, labels=batch["input_ids"]).loss for batch in samples(unseen, model, 32)]
        return float(torch.stack(found).mean())

    return run


def test_refitted_weights_lose_less_than_those_of_the_sweep(loss_after):
    swept, refitted = (loss_after("prune_sparsegpt", sparsity=0.7, refit=rounds) for rounds in (0, 6))
    assert refitted < 0.9 * swept
    assert loss_after("prune_sparsegpt", sparsity=0.7) == refitted


@pytest.mark.parametrize("step", ["quantize_rtn", "quantize_gptq", "quantize_awq"])
def test_a_refit_brings_back_some_of_what_rounding_costs(step, loss_after):
    whole, rounded = (loss_after("quantize_rtn", bits=8), loss_after(step, bits=2, group_size=16))
    refitted = loss_after(step, then={}, bits=2, group_size=16)
    assert refitted - whole < 0.9 * (rounded - whole)


def test_a_refit_does_not_go_with_bits():
    with pytest.raises(ValidationError, match="leave the grid"):
        load("prune_sparsegpt").Config(step="prune_sparsegpt", sparsity=0.5, bits=4, refit=3)
    assert load("prune_sparsegpt").Config(step="prune_sparsegpt", sparsity=0.5, bits=4).rounds == 0


def test_weights_looked_at_again_lose_less_at_few_bits(loss_after):
    once, again = (loss_after("quantize_gptq", bits=2, group_size=16, passes=passes) for passes in (0, 3))
    assert again < once
    assert loss_after("quantize_gptq", bits=2, group_size=16) == again
    assert loss_after("quantize_gptq", bits=4) == loss_after("quantize_gptq", bits=4, passes=0)
