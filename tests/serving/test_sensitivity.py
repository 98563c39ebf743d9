"""What each part costs by itself: held against models changed by hand, and for every kind of change."""

import contextlib
import json

import pytest
import torch

from compressit import model as models
from compressit import recipe, store
from compressit.anatomy import keep_blocks
from compressit.errors import IntegrityError, RecipeError, StepError
from compressit.progress import Silent
from compressit.report import layers
from compressit.serving import sensitivity, swapping
from compressit.serving.finished import Finished
from compressit.serving.sensitivity import Wanted
from tests import stepping, tiny
from tests.conftest import sentences
from tests.report.test_html import shown

ROWS = 24
COLUMNS = {"sentence-similarity": "{}", "image-classification": "{}"}
RECIPE = """\
name: a
task: {task}
model: {model}
dataset:
  path: {data}
  evaluation: train
  columns: {columns}
steps:
  - step: prune_magnitude
    sparsity: 0.5
"""
FAMILIES = ["albert", "gpt2", "mixtral", "t5", "vit", "bert-pairs"]


@pytest.fixture(scope="module")
def original(tmp_path_factory):
    """A tiny BERT whose answers differ from text to text."""
    folder = tmp_path_factory.mktemp("original")
    tiny.save("bert", folder)
    return folder


@pytest.fixture
def run(tmp_path, original):
    """Change a model by steps or by hand, save it as the checkpoint of a run, and give that."""

    def made(*done, by_hand=None, source=original, task="text-classification", rows=None):
        model = models.load(source, task)
        records = stepping.done(model, done, tmp_path)
        if by_hand:
            by_hand(model.module)
        model.save(tmp_path / "run" / "checkpoint")
        data = tmp_path / "rows.jsonl"
        data.write_text("\n".join(json.dumps(row) for row in rows or sentences(ROWS, 5)))
        columns = COLUMNS.get(task, "{text: sentence}")
        (tmp_path / "recipe.yaml").write_text(RECIPE.format(task=task, model=source, data=data, columns=columns))
        found = layers.compared(source, tmp_path / "run" / "checkpoint", records)
        report = shown().report
        origin = report.provenance.model_copy(update={"model": {"sha256": store.content_key(source)}})
        changed = {"layers": found, "steps": tuple(records), "task": task, "provenance": origin}
        return Finished(
            tmp_path / "run", report.model_copy(update=changed), recipe.load(tmp_path / "recipe.yaml").recipe
        )

    return made


def measured(run, rows=ROWS):
    return sensitivity.measure(run, Wanted(rows=rows), Silent())


def by_name(found):
    return {swap.name: swap for swap in found.swaps}


def logits(module, folder):
    words = models.processor(folder, "text-classification")
    texts = [row["sentence"] for row in sentences(ROWS, 5)]
    with torch.no_grad():
        return module(**words(texts, padding=True, return_tensors="pt")).logits


def apart(folder, changed):
    """KL of a changed model's classes from the original's, by torch, on all rows at once."""
    before, after = (logits(module, folder).double().log_softmax(-1) for module in
                     (models.load(folder, "text-classification").module, changed))  # fmt: skip
    return float(torch.nn.functional.kl_div(after, before, log_target=True, reduction="batchmean"))


def test_a_matrix_of_zeros_costs_what_it_costs_by_hand(run, original):
    name = "bert.encoder.layer.1.intermediate.dense"

    def zero(module):
        module.get_submodule(name).weight.data.zero_()

    found = measured(run(by_hand=zero))
    changed = models.load(original, "text-classification").module
    zero(changed)
    assert (found.measure, found.examples, found.split) == ("kl_divergence", ROWS, "evaluation, train")
    moved = {swap.name: swap.moved for swap in found.swaps}
    assert moved.pop(name) == pytest.approx(apart(original, changed), rel=1e-4)
    assert found.whole == pytest.approx(apart(original, changed), rel=1e-4)
    assert apart(original, changed) > 1e-3
    assert set(moved.values()) == {0.0}, "what is as it was moves nothing"


@pytest.mark.parametrize(
    "fields", [{"bits": 4, "group_size": 8, "symmetric": False}, {"activations": "int8"}], ids=["int4", "int8"]
)
def test_integers_count_as_what_they_read_back_as(fields, run, original, monkeypatch):
    # Activations are rounded to so few numbers that another padding would move some over an edge.
    monkeypatch.setattr(sensitivity, "BATCH", ROWS)
    done = run(("quantize_rtn", fields))
    found = measured(done)
    after = models.load(done.folder / "checkpoint", "text-classification").module
    assert found.whole == pytest.approx(apart(original, after), rel=1e-3)
    inside = [swap for swap in found.swaps if swap.block]
    assert len(inside) == 4 * 6
    assert all(swap.moved > 0 for swap in inside)
    if "bits" in fields:
        changed = models.load(original, "text-classification").module
        name = inside[3].name
        changed.get_submodule(name).weight.data.copy_(after.get_submodule(name).weight.data)
        assert inside[3].moved == pytest.approx(apart(original, changed), rel=1e-3)


def test_what_was_cut_together_is_put_in_together(run, original):
    done = run(("prune_ffn", {"sparsity": 0.5, "refit": False, "importance": "magnitude"}),
               ("prune_heads", {"sparsity": 0.5, "refit": False, "importance": "magnitude"}))  # fmt: skip
    found = by_name(measured(done))
    after = models.load(done.folder / "checkpoint", "text-classification").module
    blocks = [f"bert.encoder.layer.{number}" for number in range(4)]
    for block in blocks:
        changed = models.load(original, "text-classification").module
        up, left = (module.get_submodule(f"{block}.intermediate.dense").weight for module in (changed, after))
        gone = [row for row in range(len(up)) if not (left == up[row]).all(-1).any()]
        assert 0 < len(gone) < 64
        changed.get_submodule(f"{block}.output.dense").weight.data[:, gone] = 0
        swap = found[f"{block}, feed-forward network"]
        assert swap.moved == pytest.approx(apart(original, changed), rel=1e-3)
        assert swap.block == block
        assert found[f"{block}, attention"].moved > 0
        assert f"{block}.attention.self.query" not in found
    outside = [swap for swap in found.values() if swap.block is None]
    assert {swap.moved for swap in outside} == {0.0}


def test_a_block_that_left_costs_what_the_original_loses_without_it(run, original):
    found = by_name(measured(run(("drop_layers", {"keep": (0, 3)}))))
    for number in (1, 2):
        changed = models.load(original, "text-classification").module
        keep_blocks(changed, [other for other in range(4) if other != number])
        swap = found[f"bert.encoder.layer.{number}"]
        assert swap.kind == swapping.LEFT_OUT
        assert swap.moved == pytest.approx(apart(original, changed), rel=1e-3)
    assert found["bert.encoder.layer.3.output.dense"].moved == 0, "block 1 of the checkpoint is this one as it was"


def test_where_no_part_fits_it_says_why(run, tmp_path):
    tiny.save("t5", tmp_path / "t5")
    step = ("prune_heads", {"sparsity": 0.5, "refit": False, "importance": "magnitude"})
    shared = {swap.why for swap in measured(run(step, source=tmp_path / "t5"), 4).swaps if swap.moved is None}
    assert swapping.TOGETHER in shared


def test_another_kind_of_model_has_no_part_that_fits(run, original):
    done = run(("cast", {"dtype": "bfloat16"}))
    model = models.load(original, "text-classification")
    other = models.load(done.folder / "checkpoint", "text-classification")
    other.module.config.model_type = "textcnn"
    found = swapping.parts(done.report.layers, model, other, dropped=False)
    assert {part.why for part in found} == {swapping.OTHER_MODEL}


def test_experts_of_a_block_are_put_in_together(run, tmp_path):
    tiny.save("mixtral", tmp_path / "experts")
    step = ("prune_ffn", {"sparsity": 0.5, "refit": False, "importance": "magnitude"})
    found = measured(run(step, source=tmp_path / "experts"), 8)
    assert all(swap.moved is not None for swap in found.swaps)
    moved = [(swap.name.rpartition(".")[2], swap.kind) for swap in found.swaps if swap.moved]
    assert moved == [("experts", "experts")] * 4


@pytest.mark.parametrize("name", ["resnet", "resnet-bottleneck"])
def test_convolutions_of_a_block_are_put_in_together(name, run, tmp_path):
    tiny.save(name, tmp_path / "model")
    task, step = (
        "image-classification",
        ("prune_channels", {"sparsity": 0.5, "importance": "magnitude", "refit": False}),
    )
    done = run(step, source=tmp_path / "model", task=task)
    before, after = (models.load(place, task) for place in (tmp_path / "model", done.folder / "checkpoint"))
    found = [part for part in swapping.parts(done.report.layers, before, after, dropped=False) if part.block]
    together = [part for part in found if part.kind == "convolutions"]
    assert len(together) == 3
    assert not any(part.why for part in found)
    pixels = torch.randn(2, 3, 8, 8, generator=torch.Generator().manual_seed(0))
    with contextlib.ExitStack() as stack, torch.no_grad():
        wanted = after.module(pixel_values=pixels).logits
        assert not torch.allclose(before.module(pixel_values=pixels).logits, wanted)
        for part in together:
            stack.enter_context(swapping.swapped(before.module, after.module, part))
        assert torch.allclose(before.module(pixel_values=pixels).logits, wanted, atol=1e-6)


def test_a_narrower_model_has_no_part_that_fits(run):
    narrow = measured(run(("prune_width", {"sparsity": 0.5, "importance": "magnitude", "refit": False})))
    assert {swap.why for swap in narrow.swaps if swap.moved is None} == {swapping.OTHER_WIDTH}
    assert not any(swap.moved for swap in narrow.swaps)
    assert narrow.whole > 0


def test_another_vocabulary_is_no_part(run):
    def grown(module):
        module.resize_token_embeddings(40, mean_resizing=False)

    swap = by_name(measured(run(by_hand=grown)))["bert.embeddings.word_embeddings"]
    assert (swap.moved, swap.why) == (None, swapping.OTHER_TOKENS)


def test_a_row_may_be_many_windows(run, storyteller):
    rows = [{"sentence": (storyteller / "test.txt").read_text()}]
    step = ("quantize_rtn", {"bits": 4, "group_size": 32})
    done = run(step, source=storyteller / "model", task="text-generation", rows=rows)
    assert (measured(done, 1).examples, measured(done, 5).examples) == (1, 5)


def test_another_type_is_measured_in_float32(run, original):
    done = run(("cast", {"dtype": "bfloat16"}))
    found = measured(done)
    after = models.load(done.folder / "checkpoint", "text-classification").module.float()
    assert found.whole == pytest.approx(apart(original, after), rel=1e-3)
    assert all(swap.moved is not None for swap in found.swaps)


@pytest.mark.parametrize("name", FAMILIES)
def test_every_family_has_its_parts(name, run, tmp_path, monkeypatch):
    source, task = tmp_path / "source", tiny.task(name)
    tiny.save(name, source)
    rows = sentences(8, 5)
    if task == "sentence-similarity":
        rows = [{"text": row["sentence"], "text_pair": row["sentence"][::-1], "score": 1.0} for row in rows]
    if task == "image-classification":
        from compressit.data.demos import digits

        monkeypatch.setattr("compressit.data.source.read", lambda *unused: digits.splits()["test"].select(range(8)))
    step = ("prune_magnitude", {"sparsity": 0.5}) if name == "gpt2" else ("quantize_rtn", {"bits": 4, "group_size": 8})
    found = measured(run(step, source=source, task=task, rows=rows), 8)
    assert found.measure == ("cosine_distance" if task == "sentence-similarity" else "kl_divergence")
    assert all(swap.moved is not None for swap in found.swaps), [swap for swap in found.swaps if swap.why]
    inside = [swap.moved for swap in found.swaps if swap.block]
    assert sum(moved > 0 for moved in inside) > len(inside) / 2


def test_an_output_head_goes_with_the_embeddings_it_shares(storyteller, run, tmp_path):
    source = tmp_path / "tied"
    opened = models.load(storyteller / "model", "text-generation")
    opened.module.config.tie_word_embeddings = True
    opened.module.tie_weights()
    opened.save(source)
    rows = [{"sentence": line} for line in (storyteller / "test.txt").read_text().split("\n\n")[:ROWS]]

    def louder(module):
        module.get_input_embeddings().weight.data.mul_(1.5)

    found = measured(run(by_hand=louder, source=source, task="text-generation", rows=rows))
    moved = {swap.name: swap.moved for swap in found.swaps if swap.moved}
    assert list(moved) == ["model.embed_tokens"]
    assert moved["model.embed_tokens"] == pytest.approx(found.whole, rel=1e-4)


def test_it_refuses_what_it_cannot_measure(run, monkeypatch, tmp_path):
    done = run(("cast", {"dtype": "bfloat16"}))
    monkeypatch.setattr("compressit.machine.free_memory", lambda device: 1000)
    with pytest.raises(StepError, match=r"take .* of memory, 1 kB are free"):
        measured(done)
    monkeypatch.undo()
    changed = done.report.provenance.model_copy(update={"model": {"sha256": "another"}})
    other = Finished(done.folder, done.report.model_copy(update={"provenance": changed}), done.recipe)
    with pytest.raises(IntegrityError, match="is not as it was when"):
        measured(other)
    away = done.recipe.model_copy(update={"model": done.recipe.model.model_copy(update={"path": "/no/where"})})
    with pytest.raises(RecipeError, match="is not on this machine"):
        measured(Finished(done.folder, done.report, away))
    with pytest.raises(RecipeError, match="made without data"):
        measured(Finished(done.folder, done.report, done.recipe.model_copy(update={"dataset": None})))
    with pytest.raises(IntegrityError, match="doesn't list the matrices"):
        measured(Finished(done.folder, done.report.model_copy(update={"layers": ()}), done.recipe))


def test_the_original_is_as_it_was_after_a_swap(original):
    before, after = (models.load(original, "text-classification").module for _ in range(2))
    for parameter in after.parameters():
        parameter.data.add_(1)
    held = {name: parameter.clone() for name, parameter in before.named_parameters()}
    names = ("bert.encoder.layer.0.attention.self", "bert.encoder.layer.0.output.dense")
    part = swapping.Part("both", "attention", None, tuple((name, name) for name in names))
    with pytest.raises(ZeroDivisionError), swapping.swapped(before, after, part):
        assert torch.equal(before.get_submodule(names[1]).weight, after.get_submodule(names[1]).weight)
        raise ZeroDivisionError
    assert all(torch.equal(parameter, held[name]) for name, parameter in before.named_parameters())
