"""What adds nothing can be cut out, in every family, and nothing else changes."""

import pytest
import torch

from compressit import anatomy
from compressit.errors import StepError
from tests import tiny
from tests.anatomy.conftest import EXPERTS, FAMILIES, SHARED, all_but, attentions, logits
from tests.conftest import tokenizer


def silence(module, name, inputs):
    """Zero some inputs of a matrix, whichever way it lies."""
    part = module.get_submodule(name)
    with torch.no_grad():
        (part.weight if isinstance(part, torch.nn.Linear) else part.weight.T)[:, inputs] = 0


@pytest.mark.parametrize("name", [name for name in FAMILIES if name != "mixtral"])
def test_neurons_that_nobody_listens_to_can_go(name, built):
    module = built(name).module
    blocks = [block for block, _ in anatomy.blocks(module) if "ffn" in anatomy.networks(module, block)]
    counts = {block: anatomy.neurons(module, block) for block in blocks}
    dropped = {block: {1, 5, 6 + number, count - 1} for number, (block, count) in enumerate(counts.items())}
    untouched = logits(module)
    for block, some in dropped.items():
        silence(module, anatomy.down(module, block), sorted(some))
    before = logits(module)
    assert not torch.allclose(before, untouched, atol=1e-3)
    for block, some in dropped.items():
        anatomy.cut_neurons(module, block, all_but(counts[block], some))
        assert anatomy.neurons(module, block) == counts[block] - len(some)
        for up in anatomy.up(module, block):
            outputs = module.get_submodule(up)(torch.zeros(1, module.config.hidden_size)).shape[-1]
            assert outputs in (anatomy.neurons(module, block), 2 * anatomy.neurons(module, block))
    torch.testing.assert_close(logits(module), before, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("name", [*EXPERTS, "olmoe"])
def test_experts_lose_their_own_neurons(name, built):
    module = built(name).module if name != "olmoe" else olmoe()
    found = [block for block, _ in anatomy.blocks(module) if "experts" in anatomy.networks(module, block)]
    untouched = logits(module)
    kept = {}
    for number, block in enumerate(found):
        count = anatomy.neurons(module, block, "experts")
        gone = [{(number + expert + place * count // 8) % count for place in range(8)} for expert in range(4)]
        kept[block] = [all_but(count, own) for own in gone]
        assert len(kept[block][0]) == count - 8
        experts = module.get_submodule(f"{block}.mlp.experts")
        with torch.no_grad():
            for expert, own in enumerate(gone):
                experts.down_proj[expert][:, sorted(own)] = 0
    before = logits(module)
    assert not torch.allclose(before, untouched, atol=1e-4)
    for block, own in kept.items():
        anatomy.cut_experts(module, block, own)
        assert anatomy.neurons(module, block, "experts") == len(own[0])
    torch.testing.assert_close(logits(module), before, atol=1e-5, rtol=1e-5)
    assert anatomy.settle(module)


def olmoe():
    import transformers

    torch.manual_seed(0)
    config = transformers.OlmoeConfig(**tiny.DECODER, num_experts=4, num_experts_per_tok=2, vocab_size=31)
    module = transformers.OlmoeForCausalLM(config).eval()
    for parameter in module.parameters():
        if parameter.dim() > 1:
            torch.nn.init.normal_(parameter, std=0.15)
    return module


def test_experts_that_cannot_be_cut_say_why(built):
    module = built("mixtral").module
    block = "model.layers.0"
    with pytest.raises(StepError, match=r"the 4 experts in .* have to keep as many neurons each"):
        anatomy.cut_experts(module, block, [range(8)] * 3)
    with pytest.raises(StepError, match=r"the 4 experts in .* have to keep as many neurons each"):
        anatomy.cut_experts(module, block, [range(8), range(16), range(8), range(8)])
    with pytest.raises(StepError, match="12 neurons would stay of each expert") as raised:
        anatomy.cut_experts(module, block, [range(12)] * 4)
    assert "a multiple of 8" in raised.value.hint
    with pytest.raises(StepError, match="has no experts"):
        anatomy.cut_experts(built("llama").module, block, [range(8)] * 4)
    assert anatomy.settled(module.config)


@pytest.mark.parametrize("name", FAMILIES)
def test_heads_that_nobody_listens_to_can_go(name, built):
    module = built(name).module
    untouched = logits(module)
    dropped = {}
    for number, (first, kind) in enumerate(attentions(module)):
        heads = anatomy.heads(module, first, kind)
        width = heads.shared * heads.head_dim
        blocks = anatomy.together(module, first, kind)
        apart = anatomy.alike(module, first, kind)
        # Blocks that only need as many lose their own.
        gone = {block: (number + place * apart) % heads.groups for place, block in enumerate(blocks)}
        for block, head in gone.items():
            rows = list(range(head * width, (head + 1) * width))
            silence(module, anatomy.output(module, block, kind), rows)
        dropped[first, kind] = gone
    before = logits(module)
    assert not torch.allclose(before, untouched, atol=1e-3)
    for (first, kind), gone in dropped.items():
        heads = anatomy.heads(module, first, kind)
        kept = {block: all_but(heads.groups, {head}) for block, head in gone.items()}
        if len({*gone.values()}) == 1:
            anatomy.cut_heads(module, list(gone)[-1], kept[first], kind)
        else:
            anatomy.cut_heads_apart(module, kept, kind)
        for block in gone:
            left = anatomy.heads(module, block, kind)
            assert (left.count, left.groups) == (heads.count - heads.shared, heads.groups - 1)
            assert (left.head_dim, left.shared) == (heads.head_dim, heads.shared)
    torch.testing.assert_close(logits(module), before, atol=1e-5, rtol=1e-5)


def test_blocks_may_keep_different_numbers(built):
    model = built("bart")
    assert [anatomy.attentions(model.module, block) for block, _ in model.blocks()] == [("self",)] * 2 + [
        ("self", "cross")
    ] * 2
    anatomy.cut_heads(model.module, "model.decoder.layers.1", [2], "cross")
    assert anatomy.heads(model.module, "model.decoder.layers.1", "cross").count == 1
    assert anatomy.heads(model.module, "model.decoder.layers.1").count == 4
    assert bool(torch.isfinite(logits(model.module)).all())


def test_types_and_frozen_parameters_stay_what_they_are(built):
    module = built("gpt2").module.to(torch.bfloat16).requires_grad_(False)
    ffn = module.get_submodule("transformer.h.0.mlp")
    ffn.c_fc.bias.requires_grad_(True)
    anatomy.cut_neurons(module, "transformer.h.0", range(10))
    assert {parameter.dtype for parameter in ffn.parameters()} == {torch.bfloat16}
    assert [name for name, parameter in ffn.named_parameters() if parameter.requires_grad] == ["c_fc.bias"]
    assert (ffn.c_fc.nf, ffn.c_fc.nx, ffn.c_proj.nf, ffn.c_proj.nx) == (10, 32, 32, 10)
    llama = built("llama").module
    anatomy.cut_neurons(llama, "model.layers.1", range(7))
    mlp = llama.model.layers[1].mlp
    assert (mlp.up_proj.out_features, mlp.down_proj.in_features, mlp.intermediate_size) == (7, 7, 7)


def test_a_cut_decoder_still_generates(built):
    import transformers

    module = built("llama").module
    decoder = transformers.LlamaForCausalLM(module.config)
    decoder.model.load_state_dict(module.model.state_dict())
    anatomy.cut_heads(decoder, "model.layers.1", [1])
    ids = tokenizer()(["the film was good"], return_tensors="pt")
    told = decoder.generate(**ids, max_new_tokens=4, do_sample=False, eos_token_id=None, pad_token_id=0)
    slowly = decoder.generate(
        **ids, max_new_tokens=4, do_sample=False, eos_token_id=None, pad_token_id=0, use_cache=False
    )
    assert told.tolist() == slowly.tolist()


def test_albert_has_one_block_for_all_layers(built):
    model = built("albert")
    ((block, _),) = model.blocks()
    assert block == "albert.encoder.albert_layer_groups.0.albert_layers.0"
    with pytest.raises(StepError, match="can't be walked one by one"):
        anatomy.stacks(model.module)
    with pytest.raises(StepError, match="none can be dropped"):
        anatomy.keep_blocks(model.module, [0])


@pytest.mark.parametrize("name", SHARED)
def test_heads_that_share_a_table_of_positions_go_out_of_all_blocks_or_none(name, built):
    module = built(name).module
    first, last = (stack[place][0] for stack in anatomy.stacks(module)[:1] for place in (0, -1))
    assert anatomy.refusal(module.config.model_type) is None
    blocks = anatomy.together(module, last)
    assert len(blocks) == 4
    same = {block: [0, 1] for block in blocks}
    for keep in (
        {first: [0, 1]},
        {**same, last: [0, 2]},
        {**same, last: [0]},
    ):
        with pytest.raises(StepError, match=r"all blocks of the stack .* have to keep the same heads"):
            anatomy.cut_heads_apart(module, keep)
    assert anatomy.settled(module.config)
    anatomy.cut_heads(module, last, [1, 3])
    assert {anatomy.heads(module, block).count for block in blocks} == {2}
    # A decoder has a table of its own.
    assert {anatomy.heads(module, block).count for block, _ in anatomy.blocks(module) if block not in blocks} <= {4}


def test_cross_attentions_that_hand_on_what_they_made_keep_as_many_heads(built):
    module = built("t5").module
    blocks = anatomy.together(module, "transformer.decoder.block.1", "cross")
    keep = {block: [place, 3] for place, block in enumerate(blocks[:3])}
    with pytest.raises(StepError, match="have to keep as many heads of cross-attention"):
        anatomy.cut_heads_apart(module, {**keep, blocks[3]: [0]}, "cross")
    anatomy.cut_heads_apart(module, {**keep, blocks[3]: [0, 3]}, "cross")
    assert bool(torch.isfinite(logits(module)).all())
    assert {anatomy.heads(module, block, "cross").count for block in blocks} == {2}


def test_what_cannot_be_cut_says_why(built):
    module = built("bert").module
    block = "bert.encoder.layer.0"
    with pytest.raises(StepError, match=rf"none of the 4 heads of {block} would stay"):
        anatomy.cut_heads(module, block, [])
    for keep in ([64], [-1], [0, 0]):
        with pytest.raises(StepError, match="there are 64 neurons"):
            anatomy.cut_neurons(module, block, keep)
    with pytest.raises(StepError, match="is no transformer block of this bert"):
        anatomy.neurons(module, "bert.pooler")
    with pytest.raises(StepError, match="keeps its cross-attention is not described"):
        anatomy.heads(module, block, "cross")
    assert anatomy.settled(module.config)


def test_an_architecture_that_is_half_described_says_what_to_add(built):
    module = built("mixtral").module
    with pytest.raises(StepError, match="keeps its feed-forward network is not described") as raised:
        anatomy.neurons(module, "model.layers.0")
    assert raised.value.hint == "add an FFN to compressit/anatomy/families/mixtral.py"
    assert "add an Attention to compressit/anatomy/families/olmoe.py" in anatomy.refusal("olmoe")
    with pytest.raises(StepError, match="anatomy of model type 'martian' is not known") as raised:
        anatomy.refusal("martian")
    assert "compressit/anatomy/families/martian.py" in raised.value.hint
