"""Checkpoints in 16 bits of models that convolve what they are given, which comes in float32."""

import pytest
import torch

from compressit import exports
from compressit import model as models
from compressit.data import batches, singles
from compressit.errors import StepError
from compressit.steps import _sharding, load
from tests import tiny


@pytest.mark.parametrize(
    ("name", "dtype"),
    [("wav2vec2-stable", torch.bfloat16), ("ast", torch.float16), ("beit", torch.bfloat16), ("resnet", torch.float16)],
)
def test_they_run_and_train_and_are_walked_and_exported(name, dtype, context, logits, tmp_path):
    place = tmp_path / "model"
    tiny.build(name).to(dtype).save_pretrained(place)
    tiny.processor(name).save_pretrained(place)
    model = models.load(place, tiny.task(name))
    given = context(model, count=12)
    for step, fields in (("finetune", {"epochs": 1}), ("prune_wanda", {"sparsity": 0.5})):
        if (name, step) == ("resnet", "prune_wanda"):
            continue  # All of its blocks are convolutions.
        module = load(step)
        module.run(model, module.Config(step=step, **fields), given)
    said = logits(model, given)
    assert said.dtype == dtype
    assert said.isfinite().all()
    model.save(tmp_path / "saved")
    again = models.load(tmp_path / "saved", model.task)
    assert again.module.dtype == dtype
    assert torch.equal(logits(again, given), said)
    if name != "ast":
        return
    form, some = exports.load("onnx"), [batch for _, batch in batches(given.calibration, again, 6)]
    notes = form.run(
        again, form.Config(export="onnx"), tmp_path / "onnx", some, lambda n: singles(given.train, again, n)
    )
    assert notes["max_difference"] < 1e-3


def test_they_can_be_spread_over_processes_and_not_while_somebody_looks_on(opened):
    """FSDP wants a copy that computes as the model does, without hooks but the one that all are opened with."""
    model = opened("resnet")
    pixels = torch.rand(1, 3, 32, 32)
    copy = _sharding.plain(model, "finetune")
    assert torch.allclose(copy(pixel_values=pixels).logits, model.module(pixel_values=pixels).logits, atol=1e-6)
    model.module.register_forward_hook(lambda *given: None)
    with pytest.raises(StepError, match="under FSDP"):
        _sharding.plain(model, "finetune")
