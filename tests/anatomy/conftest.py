"""Models whose biases matter too, and what is done to all of them."""

import pytest
import torch

from compressit import anatomy
from compressit.model import Model
from tests import tiny

FAMILIES = [*tiny.TEXTS, *tiny.PICTURES]
EXPERTS = ["mixtral", "qwen2_moe", "qwen3_moe"]
SHARED = ["mpnet", "t5", "t5-gated", "beit-shared"]
"""Those whose blocks share a table of position biases."""
SAYABLE = {"llama", "mistral", "qwen2", "qwen3", "gemma", "gemma2", "gemma3_text", "phi3", "vit", "deit", "beit",
           "beit-shared", "dinov2", "dinov2-gated", "t5", "t5-gated", *EXPERTS}  # fmt: skip
"""Those whose config.json has a width of heads that doesn't hang on their number."""


@pytest.fixture
def built():
    def build(name, **more):
        module = tiny.build(name, **more)
        for key, parameter in module.named_parameters():
            if key.endswith("bias"):
                torch.nn.init.normal_(parameter, std=0.15)
        return Model(module, tiny.processor(name), tiny.task(name), name)

    return build


def logits(module):
    """What a model says of two rows, one of them padded."""
    torch.manual_seed(1)
    if "pixel_values" in module.main_input_name:
        inputs = {"pixel_values": torch.randn(2, 3, 8, 8)}
    else:
        rows = [[2, 5, 6, 7, 8, 9, 3], [2, 7, 9, 11, 13, 3, 0]]
        inputs = {"input_ids": torch.tensor(rows), "attention_mask": (torch.tensor(rows) != 0).long()}
    with torch.inference_mode():
        return module(**inputs).logits.float()


def all_but(count, dropped):
    return [index for index in range(count) if index not in dropped]


def attentions(module):
    """List the attentions that can be cut: (block, kind), the first of those whose blocks lose heads together."""
    return [
        (block, kind)
        for block, _ in anatomy.blocks(module)
        for kind in anatomy.attentions(module, block)
        if anatomy.together(module, block, kind)[0] == block
    ]


def cut_differently(module):
    """Take other numbers of neurons and heads out of each block but the first."""
    for number, (block, _) in enumerate(anatomy.blocks(module)):
        for kind in anatomy.networks(module, block):
            count = anatomy.neurons(module, block, kind)
            if kind == "ffn":
                anatomy.cut_neurons(module, block, all_but(count, range(3, 3 + 5 * number)))
            else:
                # Of each expert others.
                gone = [range(expert, expert + 8 * min(number, 2)) for expert in range(4)]
                anatomy.cut_experts(module, block, [all_but(count, own) for own in gone])
    for number, (block, kind) in enumerate(attentions(module)):
        groups = anatomy.heads(module, block, kind).groups
        anatomy.cut_heads(module, block, all_but(groups, {0} if number % 2 else ()), kind)


def cut_in_half(module, heads):
    """Take every other neuron, and every other head, out of every block."""
    for block, _ in anatomy.blocks(module):
        for kind in anatomy.networks(module, block):
            half = range(0, anatomy.neurons(module, block, kind), 2)
            if kind == "ffn":
                anatomy.cut_neurons(module, block, half)
            else:
                anatomy.cut_experts(module, block, [half] * 4)
    for block, kind in attentions(module) if heads else ():
        anatomy.cut_heads(module, block, range(0, anatomy.heads(module, block, kind).groups, 2), kind)
