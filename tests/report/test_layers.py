"""What became of each matrix: shapes, zeros, and how far it moved, held against the opened models."""

import pytest
import torch

from compressit import model as models
from compressit import steps as registered
from compressit.report import StepRecord, layers
from tests import stepping, tiny


@pytest.fixture
def applied(tmp_path):
    """Do steps that need no data to a tiny BERT and save it; give its layers, and both models' modules as opened."""

    def made(*steps):
        tiny.save("bert", tmp_path / "before")
        model, task = models.load(tmp_path / "before", tiny.task("bert")), tiny.task("bert")
        done = stepping.done(model, steps, tmp_path)
        model.save(tmp_path / "after")
        found = layers.compared(tmp_path / "before", tmp_path / "after", done)
        return found, *(models.load(tmp_path / place, task).module for place in ("before", "after"))

    return made


def held(module, name):
    part = module.get_submodule(name)
    scale = getattr(part, "weight_scale", torch.ones(1)) if part.weight.dtype == torch.int8 else torch.ones(1)
    return part.weight.detach().float() * scale.detach()


@pytest.mark.parametrize(
    ("steps", "kind"),
    [
        ([("quantize_rtn", {"bits": 4, "group_size": 8, "symmetric": False})], "int4"),
        ([("prune_magnitude", {"sparsity": 0.5}), ("quantize_rtn", {"activations": "int8"})], "int8"),
        ([("cast", {"dtype": "bfloat16"})], "bfloat16"),
    ],
)
def test_it_says_what_is_in_the_files(steps, kind, applied):
    found, before, after = applied(*steps)
    matrices = {name for name, part in after.named_modules() if getattr(getattr(part, "weight", None), "ndim", 0) > 1}
    assert {layer.name for layer in found} == matrices
    inside = [layer for layer in found if layer.block]
    assert len(inside) == 4 * 6
    assert {layer.kind for layer in inside} == {kind}
    for layer in found:
        old, new = held(before, layer.name), held(after, layer.name)
        assert layer.before == layer.after == tuple(old.shape)
        assert layer.zeros == pytest.approx(float((new == 0).float().mean()), abs=1e-6)
        assert layer.moved == pytest.approx(float((new - old).norm() / old.norm()), rel=1e-4, abs=1e-7)
        assert not layer.sampled
    if kind == "int8":
        assert all(layer.zeros > 0.45 for layer in inside)


def test_blocks_that_moved_up_are_held_against_what_they_were(applied):
    found, before, after = applied(("drop_layers", {"keep": (0, 1, 3)}), ("drop_layers", {"keep": (0, 2)}))
    name = "bert.encoder.layer.1.output.dense"
    assert torch.equal(held(after, name), held(before, "bert.encoder.layer.3.output.dense"))
    own = {layer.name: layer for layer in found if layer.after}
    assert own[name].was == "bert.encoder.layer.3.output.dense"
    assert {layer.moved for layer in own.values()} == {0}
    assert own["bert.encoder.layer.0.output.dense"].was is None
    gone = [layer.block for layer in found if layer.after is None]
    assert gone == ["bert.encoder.layer.1"] * 6 + ["bert.encoder.layer.2"] * 6


def test_matrices_of_another_shape_did_not_move_by_any_number(tmp_path):
    tiny.save("bert", tmp_path / "before")
    tiny.build("bert", intermediate_size=32).save_pretrained(tmp_path / "after")
    found = {layer.name: layer for layer in layers.compared(tmp_path / "before", tmp_path / "after", [])}
    narrower = found["bert.encoder.layer.0.intermediate.dense"]
    assert (narrower.before, narrower.after, narrower.moved) == ((64, 32), (32, 32), None)
    assert found["bert.encoder.layer.0.attention.self.query"].moved is not None


def test_of_a_large_matrix_some_rows_stand_for_all(monkeypatch):
    before = torch.randn(1000, 64, generator=torch.Generator().manual_seed(0))
    after = before + 0.1 * torch.randn(1000, 64, generator=torch.Generator().manual_seed(1))
    whole, sampled = layers.moved(after, before)
    assert not sampled
    monkeypatch.setattr(layers, "LOOKED_AT", 8000)
    some, sampled = layers.moved(after, before)
    assert sampled
    assert some == pytest.approx(whole, rel=0.05)
    assert layers.moved(after, torch.zeros_like(before))[0] is None


def test_blocks_kept_by_several_steps_are_counted_through():
    records = [StepRecord(step="drop_layers", config={}, notes={"kept": kept}, seconds=0, parameters=1)
               for kept in ("0, 2, 4, 5", "1, 3")]  # fmt: skip
    assert layers.kept(records) == [[2, 5]]
    assert layers.kept(records[:0]) is None


def test_an_encoder_and_a_decoder_are_counted_apart(tmp_path):
    tiny.save("t5", tmp_path / "before")
    model = models.load(tmp_path / "before", "text-classification")
    step = registered.load("drop_layers")
    notes = step.run(model, step.Config(step="drop_layers", keep=(1, 3), stack="decoder"), None)
    model.save(tmp_path / "after")
    done = [StepRecord(step="drop_layers", config={}, notes=notes, seconds=0, parameters=1)]
    every = layers.compared(tmp_path / "before", tmp_path / "after", done)
    found = {layer.name: layer for layer in every if layer.after}
    moved = found["transformer.decoder.block.0.layer.2.DenseReluDense.wi"]
    assert moved.was == "transformer.decoder.block.1.layer.2.DenseReluDense.wi"
    assert found["transformer.encoder.block.1.layer.1.DenseReluDense.wi"].was is None
    assert {layer.moved for layer in found.values()} == {0}
    assert [layer.name for layer in every if layer.after is None and "wi" in layer.name] == [
        f"transformer.decoder.block.{index}.layer.2.DenseReluDense.wi" for index in (0, 2)
    ]
