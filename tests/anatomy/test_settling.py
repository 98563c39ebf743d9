"""What was cut is saved, and opens again: with plain transformers where config.json can say the shapes."""

import json

import pytest
import torch
import transformers
from safetensors.torch import load_file

from compressit import anatomy, checkpoint, steps, weights
from compressit import model as models
from compressit.progress import Silent
from compressit.steps import StepContext
from tests.anatomy.conftest import FAMILIES, SAYABLE, attentions, cut_differently, cut_in_half, logits

AUTO = {
    "text-classification": transformers.AutoModelForSequenceClassification,
    "image-classification": transformers.AutoModelForImageClassification,
}


def config(folder):
    return json.loads((folder / "config.json").read_text())


@pytest.mark.parametrize("name", FAMILIES)
def test_any_shapes_open_again(name, built, tmp_path):
    model = built(name)
    cut_differently(model.module)
    if len(model.blocks()) == 1:
        anatomy.cut_heads(model.module, model.blocks()[0][0], [1, 2])
    model.save(tmp_path / "saved")
    before = logits(model.module)
    assert not anatomy.settle(model.module)
    assert config(tmp_path / "saved")["compressit"] == {"shapes": "tensors"}
    again = models.load(tmp_path / "saved", model.task)
    held = model.module.state_dict()
    assert all(torch.equal(tensor, held[key]) for key, tensor in again.module.state_dict().items())
    # As they lie in the file some odd widths are multiplied in another order.
    torch.testing.assert_close(logits(again.module), before, atol=1e-6, rtol=0)
    assert type(again.module) is type(model.module)
    for block, _ in model.blocks():
        for kind in anatomy.networks(model.module, block):
            assert anatomy.neurons(again.module, block, kind) == anatomy.neurons(model.module, block, kind)
    with pytest.raises(RuntimeError, match="ignore_mismatched_sizes"):
        AUTO[model.task].from_pretrained(tmp_path / "saved")


@pytest.mark.parametrize("name", FAMILIES)
def test_blocks_that_agree_open_anywhere_where_config_can_say_it(name, built, tmp_path):
    model = built(name)
    model.save(tmp_path / "whole")
    says = name != "dinov2-gated"
    cut_in_half(model.module, heads=False)
    assert anatomy.settle(model.module) == says
    before = logits(model.module)
    model.save(tmp_path / "narrow")
    assert ("compressit" in config(tmp_path / "narrow")) != says
    if says:
        plain = AUTO[model.task].from_pretrained(tmp_path / "narrow")
        assert torch.equal(logits(plain), before)
    check_foreseen(tmp_path, "narrow", anatomy.neuron_axis)


@pytest.mark.parametrize("name", FAMILIES)
def test_fewer_heads_open_anywhere_where_config_can_say_it(name, built, tmp_path):
    model = built(name)
    model.save(tmp_path / "whole")
    for block, kind in attentions(model.module):
        half = range(0, anatomy.heads(model.module, block, kind).groups, 2)
        anatomy.cut_heads(model.module, block, half, kind)
    assert anatomy.settle(model.module) == (name in SAYABLE)
    before = logits(model.module)
    model.save(tmp_path / "few")
    if name in SAYABLE:
        assert "compressit" not in config(tmp_path / "few")
        assert torch.equal(logits(AUTO[model.task].from_pretrained(tmp_path / "few")), before)
    assert torch.equal(logits(models.load(tmp_path / "few", model.task).module), before)
    table = weights.read(tmp_path / "few")
    assert table.head_dim == 8 == anatomy.heads(model.module, model.blocks()[0][0]).head_dim
    check_foreseen(tmp_path, "few", lambda *at: first(anatomy.head_axis(*at), anatomy.head_axis(*at, "cross")))


def first(*found):
    return next((each for each in found if each is not None), None)


def check_foreseen(tmp_path, cut, axis):
    """The name of a tensor says along which axis a cut by half shrinks it."""
    table = weights.read(tmp_path / "whole")
    shapes = {tensor.name: tensor.shape for tensor in weights.read(tmp_path / cut).tensors}
    shrunk = 0
    for tensor in table.tensors:
        along = axis(table.model_type, tensor.name)
        expected = [size // 2 if place == along else size for place, size in enumerate(tensor.shape)]
        assert list(shapes[tensor.name]) == expected, tensor.name
        shrunk += along is not None
    assert shrunk


def test_a_config_that_refuses_a_number_of_heads_leaves_it_to_the_tensors(built, tmp_path):
    """Llama's wants one that divides the width of the model."""
    model = built("llama", num_key_value_heads=4)
    for block, _ in model.blocks():
        anatomy.cut_heads(model.module, block, [0, 1, 3])
        anatomy.cut_neurons(model.module, block, range(40))
    assert not anatomy.settle(model.module)
    assert (model.module.config.num_attention_heads, model.module.config.intermediate_size) == (4, 40)
    model.save(tmp_path)
    assert torch.equal(logits(models.load(tmp_path, model.task).module), logits(model.module))
    for block, _ in model.blocks():
        anatomy.cut_heads(model.module, block, [0, 2])
    assert anatomy.settle(model.module)
    assert model.module.config.num_attention_heads == 2
    assert "compressit" not in model.module.config.to_dict()


@pytest.mark.parametrize("name", ["bert", "vit", "phi3", "gpt2", "bart", "mpnet", "t5", "qwen2_moe"])
def test_weights_left_on_disk_fit_too_and_are_saved_in_files_for_each_block(name, built, tmp_path):
    model = built(name)
    cut_differently(model.module)
    model.save(tmp_path / "saved")
    lazy = models.load(tmp_path / "saved", model.task, scratch=tmp_path / "scratch")
    held = model.module.state_dict()
    for part, names in lazy.parts().items():
        read = lazy.read(part, names).tensors
        assert all(torch.equal(read[name], held[name]) for name in names)
    lazy.save(tmp_path / "sharded")
    assert len(list((tmp_path / "sharded").glob("*.safetensors"))) > 1
    again = models.load(tmp_path / "sharded", model.task)
    assert torch.equal(logits(again.module), logits(model.module))
    cut_in_half(again.module, heads=False)
    again.save(tmp_path / "cut again")
    assert torch.equal(logits(models.load(tmp_path / "cut again", model.task).module), logits(again.module))


@pytest.mark.parametrize(("name", "bits"), [("bert", 8), ("llama", 8), ("llama", 4)])
def test_quantized_checkpoints_fit_too(name, bits, built, tmp_path):
    pytest.importorskip("compressed_tensors")
    model = built(name)
    cut_differently(model.module)
    step = steps.load("quantize_rtn")
    context = StepContext(None, None, lambda path: model, "cpu", 0, Silent(), tmp_path / "scratch")
    step.run(model, step.Config(step="quantize_rtn", bits=bits), context)
    model.save(tmp_path / "saved")
    assert config(tmp_path / "saved")["quantization_config"]
    again = models.load(tmp_path / "saved", model.task)
    torch.testing.assert_close(logits(again.module), logits(model.module), atol=1e-5, rtol=1e-5)


def test_a_marked_config_goes_with_blocks_that_are_dropped(built, tmp_path):
    model = built("distilbert")
    cut_differently(model.module)
    anatomy.keep_blocks(model.module, [0, 2, 3])
    model.save(tmp_path)
    again = models.load(tmp_path, model.task)
    assert torch.equal(logits(again.module), logits(model.module))
    stored = load_file(tmp_path / "model.safetensors")
    assert checkpoint.shapes(tmp_path) == {key: tuple(tensor.shape) for key, tensor in stored.items()}


def test_a_model_that_was_not_cut_is_left_alone(built, tmp_path):
    model = built("bert")
    said = model.module.config.to_dict()
    assert anatomy.settle(model.module)
    block, _ = model.blocks()[0]
    anatomy.cut_neurons(model.module, block, range(64))
    anatomy.cut_heads(model.module, block, range(4))
    assert model.module.config.to_dict() == said
