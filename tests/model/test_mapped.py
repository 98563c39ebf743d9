"""Models that run while their weights stay on disk: the same logits, and no weight in memory of its own."""

import json
import sys
from pathlib import Path

import pytest
import torch

from compressit import anatomy, steps
from compressit import model as models
from compressit.model import mapped
from compressit.progress import Silent
from tests import tiny

INT4 = {"bits": 4, "group_size": 8}
OFFSET = {"bits": 4, "group_size": 16, "symmetric": False}
BOTH = {"bits": 8, "activations": "int8"}
TEXTS = ["the film is good", "a very bad plot and a dull scene"]


def inputs(name):
    if name in tiny.PICTURES:
        return {"pixel_values": torch.randn(2, 3, 8, 8, generator=torch.Generator().manual_seed(0))}
    return tiny.processor(name)(TEXTS, padding=True, return_tensors="pt", return_token_type_ids=False)


def quantize(name, folder, scratch, **fields):
    model, step = models.load(folder, tiny.task(name)), steps.load("quantize_rtn")
    context = steps.StepContext(None, None, None, "cpu", 0, Silent(), scratch / "step")
    step.run(model, step.Config(step="quantize_rtn", **fields), context)
    model.save(scratch / "quantized")
    return scratch / "quantized"


def in_memory(module):
    """Name the tensors that lie in memory of their own, by what the kernel says of their addresses."""
    regions = []
    for line in Path("/proc/self/maps").read_text().splitlines():
        addresses, _, _, _, _, *file = line.split(None, 5)
        start, end = (int(address, 16) for address in addresses.split("-"))
        regions += [(start, end)] if file and ".safetensors" in file[0] else []
    return [
        name
        for name, tensor in module.state_dict().items()
        if not any(start <= tensor.data_ptr() < end for start, end in regions)
    ]


def check(name, folder, scratch, left=()):
    opened = mapped.load(folder, tiny.task(name), scratch / "weights")
    whole = models.load(folder, tiny.task(name))
    batch = inputs(name)
    with torch.inference_mode():
        assert torch.equal(opened.module(**batch).logits, whole.module(**batch).logits)
    assert opened.module.num_parameters() == whole.module.num_parameters(), "what is tied stays tied"
    if sys.platform == "linux":
        assert in_memory(whole.module) or not any((scratch / "weights").iterdir())
        assert in_memory(opened.module) == [*left]


@pytest.mark.parametrize("name", ["llama", "mixtral", "gpt2", "deberta-v2", "albert", "t5", "bart", "vit"])
def test_as_found(name, tmp_path):
    tiny.save(name, tmp_path / "model")
    check(name, tmp_path / "model", tmp_path)


@pytest.mark.parametrize(
    ("name", "fields"),
    [("llama", INT4), ("llama", OFFSET), ("llama", BOTH), ("mixtral", INT4), ("deberta-v2", BOTH), ("t5", OFFSET)],
)
def test_quantized(name, fields, tmp_path):
    tiny.save(name, tmp_path / "model")
    check(name, quantize(name, tmp_path / "model", tmp_path, **fields), tmp_path)


def test_weights_of_another_type_than_they_are_used_in(tmp_path):
    tiny.save("llama", tmp_path / "model")
    described = json.loads((tmp_path / "model" / "config.json").read_text())
    (tmp_path / "model" / "config.json").write_text(json.dumps({**described, "dtype": "bfloat16"}))
    check("llama", tmp_path / "model", tmp_path, left=["model.norm.weight"])


def test_shapes_that_config_json_can_not_say(tmp_path):
    tiny.save("vit", tmp_path / "model")
    model = models.load(tmp_path / "model", tiny.task("vit"))
    anatomy.cut_heads(model.module, model.blocks()[0][0], [1, 2])
    model.save(tmp_path / "cut")
    check("vit", tmp_path / "cut", tmp_path)
