"""lora: thin matrices trained beside layers, what is saved of them, zeros, and going on after a kill."""

import sys
from dataclasses import replace

import pytest
import torch
from safetensors.torch import load_file

from compressit import anatomy, steps
from compressit import model as models
from compressit.errors import MissingExtra, RecipeError, StepError
from compressit.steps import _adapting, distill, finetune, prune_magnitude
from tests.conftest import linears
from tests.steps.test_training import Killed, logits_in_order, settings


def weights(model):
    return {name: tensor.detach().clone() for name, tensor in model.module.state_dict().items()}


def test_it_learns_and_leaves_an_ordinary_checkpoint(opened, context, tmp_path):
    model = opened("bert")
    given = context(model, count=512)
    torch.manual_seed(0)
    torch.nn.init.normal_(model.module.classifier.weight)
    for layer in linears(model).values():
        layer.weight.data += 0.08 * torch.randn_like(layer.weight)
    before = weights(model)
    assert (logits_in_order(model, given).argmax(-1) == torch.tensor(given.train["label"])).float().mean() < 0.1
    finetune.run(model, settings(finetune, epochs=4, learning_rate=3e-3, lora={"rank": 4}), given)
    right = logits_in_order(model, given).argmax(-1) == torch.tensor(given.train["label"])
    assert right.float().mean() > 0.9
    model.save(tmp_path / "saved")
    saved = load_file(tmp_path / "saved" / "model.safetensors")
    assert saved.keys() == load_file(f"{model.source}/model.safetensors").keys()
    moved = {name for name, tensor in weights(model).items() if not torch.equal(tensor, before[name])}
    heads = {"classifier.weight", "classifier.bias"}
    assert moved == {f"{name}.weight" for name in linears(model)} | heads
    for name in linears(model):
        delta = weights(model)[f"{name}.weight"] - before[f"{name}.weight"]
        assert torch.linalg.matrix_rank(delta, rtol=1e-4) <= 4, name
    assert all(parameter.requires_grad for parameter in model.module.parameters())
    assert not hasattr(model.module, "peft_config")


@pytest.mark.parametrize("name", ["bert", "llama", "gpt2", "vit"])
@pytest.mark.parametrize("pruned", [False, True])
def test_what_was_trained_is_what_is_left(pruned, name, opened, context, logits):
    model = opened(name)
    given = context(model)
    if pruned:
        prune_magnitude.run(model, prune_magnitude.Config(step="prune_magnitude", sparsity=0.6), given)
    before = weights(model)
    with _adapting.adapted(model, settings(finetune, lora={"rank": 2}), given):
        thin = [p for n, p in model.module.named_parameters() if ".lora_" in n]
        for parameter in thin:
            torch.nn.init.normal_(parameter, std=0.2)
        trained = logits(model, given)
    assert len(thin) == 2 * len(model.matrices())
    assert torch.allclose(logits(model, given), trained, atol=1e-3)
    after, matrices = weights(model), model.matrices()
    assert not torch.equal(trained, logits(opened(name), given))
    for matrix in matrices.values():
        zero = before[matrix.parameter] == 0
        assert bool(zero.any()) == pruned
        assert torch.equal(after[matrix.parameter] == 0, zero)


def test_zeros_of_layers_and_heads_stay_and_the_type_does(opened, context):
    model = opened("bert")
    given = context(model)
    prune_magnitude.run(model, prune_magnitude.Config(step="prune_magnitude", sparsity=0.5), given)
    model.module.classifier.weight.data[0, ::2] = 0
    models.cast(model.module, torch.bfloat16)
    before = weights(model)
    distill.run(model, settings(distill, learning_rate=1e-2, lora={"layers": ("*attention*",)}, relations=1.0), given)
    assert model.module.dtype == torch.bfloat16
    for name, after in weights(model).items():
        assert bool((after[before[name] == 0] == 0).all()), name
        attended = "attention" in name and name.endswith("weight") and "LayerNorm" not in name
        assert torch.equal(after, before[name]) != (attended or name.startswith("classifier")), name


@pytest.mark.parametrize("cut", ["prune_heads", "drop_layers", "factor_svd", "prune_width"])
def test_models_that_were_cut_train_so_too(cut, opened, context, tmp_path, logits):
    model = opened("bert")
    given = context(model)
    fields = {"drop_layers": {"keep": 2}}.get(cut, {"sparsity": 0.5})
    steps.load(cut).run(model, steps.load(cut).Config(step=cut, **fields), given)
    before = logits(model, given)
    own, more = replace(given, scratch=tmp_path / "own"), {} if cut == "factor_svd" else {"hidden": 1.0}
    distill.run(model, settings(distill, learning_rate=1e-2, lora={"rank": 2}, **more), own)
    model.save(tmp_path / "saved")
    again = logits(models.load(tmp_path / "saved", model.task), given)
    assert torch.equal(again, logits(model, given))
    assert not torch.allclose(again, before)


def test_the_optimizer_holds_less_and_a_killed_training_ends_the_same(opened, context, tmp_path):
    whole, broken, again = opened("bert"), opened("bert"), opened("bert")
    given, config = context(whole), settings(finetune, epochs=3, learning_rate=1e-2, lora={"rank": 2, "alpha": 4})
    # As the runner does before each step.
    torch.manual_seed(0)
    finetune.run(whole, config, replace(given, scratch=tmp_path / "whole"))
    done = 0

    def die(more):
        nonlocal done
        done += more
        if done == 6:
            raise Killed

    class Bars:
        def bar(self, label, total):
            import contextlib

            return contextlib.nullcontext(die)

    kept = replace(given, scratch=tmp_path / "broken")
    torch.manual_seed(0)
    with pytest.raises(Killed):
        finetune.run(broken, config, replace(kept, progress=Bars()))
    assert finetune.run(again, config, kept)["resumed"]
    assert all(torch.equal(tensor, weights(again)[name]) for name, tensor in weights(whole).items())

    def held(folder):
        state = torch.load(next(folder.glob("checkpoint-*/optimizer.pt")))["state"]
        return sum(tensor.numel() for of_one in state.values() for tensor in of_one.values())

    finetune.run(opened("bert"), settings(finetune), replace(given, scratch=tmp_path / "full"))
    assert held(tmp_path / "whole") < 0.25 * held(tmp_path / "full")


@pytest.mark.parametrize(
    ("name", "layers", "message"),
    [
        ("mixtral", (), "experts"),
        ("bert", ("*nothing*",), "nothing"),
        ("bert", ("*word_embeddings*",), "word_embeddings"),
        ("bert-mask", ("*decoder*",), "embeddings"),
    ],
)
def test_layers_that_have_no_thin_matrices_are_refused(name, layers, message, opened, context):
    model = opened(name)
    with pytest.raises(RecipeError, match=message):
        finetune.run(model, settings(finetune, lora={"layers": layers}), context(model))


def test_experts_may_be_left_out(opened, context):
    model = opened("mixtral")
    before = weights(model)
    finetune.run(model, settings(finetune, learning_rate=1e-2, lora={"layers": ("*self_attn*",)}), context(model))
    moved = {name for name, tensor in weights(model).items() if not torch.equal(tensor, before[name])}
    assert all("self_attn" in name or name.startswith("score") for name in moved)
    assert len(moved) == 4 * len(anatomy.blocks(model.module)) + 1


def test_peft_is_named_where_it_is_missing(opened, context, monkeypatch):
    monkeypatch.setitem(sys.modules, "peft", None)
    model = opened("bert")
    with pytest.raises(MissingExtra, match="peft") as caught:
        finetune.run(model, settings(finetune, lora={}), context(model))
    assert "compressit[lora]" in caught.value.hint


def test_weights_that_are_spread_are_refused(opened, context, monkeypatch):
    monkeypatch.setenv("ACCELERATE_USE_FSDP", "true")
    monkeypatch.setenv("FSDP_VERSION", "2")
    model = opened("bert")
    with pytest.raises(StepError, match="FSDP"):
        finetune.run(model, settings(finetune, lora={}), replace(context(model), processes=2))
