"""The walk against plain forward passes, and what may never change its results."""

import shutil

import pytest
import torch
from datasets import Dataset
from torch.overrides import TorchFunctionMode

from compressit import model as models
from compressit.data import walking
from compressit.data.walking import How
from compressit.data.walking.activations import Activations
from compressit.data.walking.capture import Call
from compressit.data.walking.runs import Runs
from compressit.data.walking.statistics import Gram, Norms
from compressit.data.walking.watch import Stopped
from compressit.errors import StepError
from compressit.steps import load
from tests import tiny

TASK = "text-generation"


def how(**changed):
    settings = {"statistic": Gram, "sequential": False, "feed": "compressed", "device": "cpu", "dtype": torch.float32}
    return How(**{**settings, "limit": 1 << 30, **changed})


def windows(count=12, length=24):
    draw = torch.Generator().manual_seed(0)
    return [{"input_ids": torch.randint(2, 300, (count // 3, length), generator=draw)} for _ in range(3)]


@pytest.fixture
def model(storyteller):
    return models.load(storyteller / "model", TASK)


def measured(model, batches, scratch, settings):
    """Walk without changing anything; give H by matrix."""
    found = {}
    for block in walking.walk(model, batches, model.matrices(), scratch, settings):
        for group in block.groups():
            hessian = group.statistic.hessian()
            found |= {matrix.name: hessian for matrix in group.matrices}
    return found


def seen_in_the_model(model, batches):
    """Run the model as it is; give by matrix the sum of the squares of its inputs, and how many rows they were."""
    found, hooks = {}, []
    for name in model.matrices():

        def see(layer, inputs, name=name):
            rows = inputs[0].reshape(-1, inputs[0].shape[-1]).double()
            total, count = found.get(name, (0, 0))
            found[name] = (total + rows.T @ rows, count + len(rows))

        hooks.append(model.module.get_submodule(name).register_forward_pre_hook(see))
    with torch.no_grad():
        for batch in batches:
            model.module(**batch, attention_mask=torch.ones_like(batch["input_ids"]))
    for hook in hooks:
        hook.remove()
    return found


@pytest.mark.parametrize("sequential", [True, False])
@pytest.mark.parametrize("feed", ["compressed", "original"])
def test_each_matrix_is_shown_what_it_sees_in_the_model(sequential, feed, model, tmp_path):
    batches = windows()
    wanted = seen_in_the_model(model, batches)
    found = measured(model, batches, tmp_path, how(sequential=sequential, feed=feed))
    assert found.keys() == wanted.keys()
    for name, (total, count) in wanted.items():
        assert torch.allclose(found[name].double(), 2 / count * total, rtol=1e-4, atol=1e-5), name
    for part in ("q", "k", "v"):
        assert found[f"model.layers.1.self_attn.{part}_proj"] is found["model.layers.1.self_attn.q_proj"]


def test_later_matrices_see_what_earlier_ones_have_become(model, tmp_path):
    batches = windows()
    plain = measured(model, batches, tmp_path / "a", how())
    seen = {}
    for block in walking.walk(model, batches, model.matrices(), tmp_path / "b", how(sequential=True)):
        for group in block.groups():
            hessian = group.statistic.hessian()
            for matrix in group.matrices:
                seen[matrix.name] = hessian
                block.put(matrix, block.weight(matrix) * 0.5)
    assert torch.equal(seen["model.layers.0.self_attn.q_proj"], plain["model.layers.0.self_attn.q_proj"])
    # Half a value projection, half the input of the output projection.
    assert torch.allclose(
        seen["model.layers.0.self_attn.o_proj"].diagonal().sum() * 4,
        plain["model.layers.0.self_attn.o_proj"].diagonal().sum(),
        rtol=0.2,
    )
    assert not torch.allclose(seen["model.layers.1.mlp.up_proj"], plain["model.layers.1.mlp.up_proj"], rtol=0.01)


@pytest.mark.parametrize("side", ["left", "right"])
def test_padding_changes_no_bit(side, sentiment, tmp_path):
    """However long, whatever is written there, on whichever side: it is cut off before anything is computed."""
    model = models.load(sentiment / "model", "text-classification")
    rows = Dataset.from_dict({"text": ["the film was good", "a bad plot and music", "fine"], "label": [1, 0, 1]})
    plain = walking.samples(rows, model, None)
    model.processor.padding_side = side

    class Padding:
        """A processor that pads every row with junk."""

        model_max_length, pad = model.processor.model_max_length, model.processor.pad

        def __call__(self, texts, **kwargs):
            found = model.processor(texts, **kwargs)
            for key in found:
                pad = [0 if key == "attention_mask" else 7] * 5
                found[key] = [[*pad, *row] if side == "left" else [*row, *pad] for row in found[key]]
            return found

    padded = walking.samples(rows, models.Model(model.module, Padding(), model.task, model.source), None)
    assert len(plain) == len(padded)
    for one, other in zip(plain, padded, strict=True):
        assert all(torch.equal(one[key], other[key]) for key in one)


def test_what_does_not_fit_in_memory_goes_to_files_and_comes_back_the_same(model, tmp_path):
    batches = windows()
    roomy = measured(model, batches, tmp_path / "a", how())
    tight = measured(model, batches, tmp_path / "b", how(limit=0))
    assert all(torch.equal(roomy[name], tight[name]) for name in roomy)
    held = Activations(tmp_path / "c", limit=100)
    held.put(0, torch.arange(20.0))
    held.put(1, torch.arange(20).to(torch.bfloat16))
    held.put(0, torch.arange(20.0) + 1)
    assert held.get(0).tolist() == list(range(1, 21))
    assert held.get(1).dtype is torch.bfloat16
    assert len(held) == 2


def test_bfloat16_rows_are_summed_without_loss():
    rows = torch.randn(300, 700, generator=torch.Generator().manual_seed(0)).bfloat16()
    gram, norms = Gram(700, "cpu"), Norms(700, "cpu")
    for some in rows.split(100):
        gram.add(some)
        norms.add(some)
    exact = rows.double()
    assert torch.allclose(gram.hessian().double(), 2 / 300 * exact.T @ exact, rtol=1e-4, atol=1e-5)
    assert torch.allclose(norms.squares_I.double(), exact.square().sum(0), rtol=1e-5)


@pytest.mark.parametrize("name", ["quantize_gptq", "prune_sparsegpt", "prune_wanda"])
@pytest.mark.parametrize("kept", [1, 3])
@pytest.mark.parametrize("feed", ["compressed", "original"])
def test_a_walk_that_goes_on_ends_with_the_same_bytes(name, kept, feed, storyteller, context_of, tmp_path):
    step = load(name)
    amount = {"bits": 3} if name == "quantize_gptq" else {"sparsity": 0.5}
    config = step.Config(step=name, feed=feed, **amount)
    digests = []
    for attempt, again in (("whole", False), ("resumed", True)):
        scratch = tmp_path / attempt
        if again:
            scratch.mkdir()
            files = sorted((tmp_path / "whole").glob("0*.safetensors"))
            assert len(files) == 4
            for file in files[:kept]:
                shutil.copy(file, scratch)
            (scratch / ".00003.safetensors.partial").write_bytes(b"half")
        model = models.load(storyteller / "model", TASK, scratch=tmp_path / f"weights-{attempt}")
        step.run(model, config, context_of(model, scratch))
        model.save(tmp_path / f"saved-{attempt}")
        files = sorted((tmp_path / f"saved-{attempt}").glob("*.safetensors"))
        digests.append([file.read_bytes() for file in files])
    assert digests[0] == digests[1]


@pytest.fixture
def context_of(storyteller):
    from compressit.data import DatasetSpec, rows
    from compressit.progress import Silent
    from compressit.steps import StepContext

    spec = DatasetSpec(path=str(storyteller), evaluation="test.txt", max_length=32)
    some = rows(spec, "train.txt[:60]", TASK, {}, storyteller)

    def made(model, scratch):
        return StepContext(None, some, lambda path: model, "cpu", 0, Silent(), scratch, 32)

    return made


class Counting(TorchFunctionMode):
    """Counts attentions."""

    def __init__(self):
        super().__init__()
        self.count = 0

    def __torch_function__(self, function, types, args=(), kwargs=None):
        self.count += function is torch.nn.functional.scaled_dot_product_attention
        return function(*args, **(kwargs or {}))


def halved(model, scratch, settings):
    """Walk, halve every matrix on the way; give what each saw, and how often attention was computed."""
    seen = {}
    with Counting() as attentions:
        for block in walking.walk(model, windows(), model.matrices(), scratch, settings):
            for group in block.groups():
                hessian = group.statistic.hessian()
                for matrix in group.matrices:
                    seen[matrix.name] = hessian
                    block.put(matrix, block.weight(matrix) * 0.5)
    return seen, attentions.count


def test_a_pass_goes_on_where_it_stopped_and_nothing_is_computed_twice(storyteller, tmp_path, monkeypatch):
    blocks = len(models.load(storyteller / "model", TASK).blocks())
    found = {}
    for waiting in (0, 4, 100):
        monkeypatch.setattr(walking.blocks, "WAITING", waiting)
        model = models.load(storyteller / "model", TASK)
        found[waiting] = halved(model, tmp_path / str(waiting), how(sequential=True))
    # Three batches through each block, and the first once more to learn from; once to see what a block hands on.
    assert found[100][1] == 4 * blocks + 1
    assert found[0][1] > found[4][1] >= found[100][1]
    for waiting in (4, 100):
        assert found[waiting][0].keys() == found[0][0].keys()
        assert all(torch.equal(found[waiting][0][name], seen) for name, seen in found[0][0].items())


class Turning(torch.nn.Module):
    """A block in which only some samples look back, after its second product, at what was before it."""

    def __init__(self, needs_its_inputs):
        super().__init__()
        self.first, self.second, self.last = (torch.nn.Linear(4, 4) for _ in range(3))
        self.needs_its_inputs = needs_its_inputs

    def forward(self, hidden):
        doubled = hidden * 2
        turns = bool(doubled.sum() > 0)
        made = self.last(self.second(self.first(doubled).relu()))
        made = made + doubled if turns else made
        return made + hidden if self.needs_its_inputs else made


def turning(needs_its_inputs, folder):
    """Stop three samples before the second product; the second of them will turn."""
    torch.manual_seed(0)
    block, inputs = Turning(needs_its_inputs), [torch.full((2, 4), value) for value in (-1.0, 1.0, -2.0)]
    flow = Activations(folder, 1 << 20)
    for index, hidden in enumerate(inputs):
        flow.put(index, hidden)
    known = {getattr(block, name).weight.data_ptr(): (name, None) for name in ("first", "second", "last")}
    runs, stops = Runs(block, flow, [Call((), {}, named=False)] * 3, known, "cpu", 1 << 20), {}
    runs.learn(lambda key, inputs, call: stops.setdefault(key[0], call))

    def stop(key, inputs):
        if key[0] == "second":
            raise Stopped

    assert [runs.go(batch, stop, stops["second"]) for batch in range(3)] == [None] * 3
    assert len(runs.waiting) == 3
    return runs, block, inputs


@torch.no_grad()
def test_a_pass_that_turns_out_otherwise_than_the_first_begins_anew_and_tells_nothing_twice(tmp_path):
    runs, block, inputs = turning(True, tmp_path)
    for index, hidden in enumerate(inputs):
        told = []
        found = runs.go(index, lambda key, inputs, told=told: told.append(key[0]))
        assert torch.equal(found, block(hidden))
        assert told.count("second") == told.count("last") == 1


@torch.no_grad()
def test_where_it_can_not_begin_anew_the_error_says_what_to_do(tmp_path):
    runs, block, inputs = turning(False, tmp_path)
    assert torch.equal(runs.go(0, lambda key, inputs: None), block(inputs[0]))
    with pytest.raises(StepError, match="otherwise than the first") as caught:
        runs.go(1, lambda key, inputs: None)
    assert "sequential: false" in caught.value.hint


def test_special_tokens_can_be_left_out_of_statistics(sentiment, tmp_path):
    model = models.load(sentiment / "model", "text-classification")
    rows = Dataset.from_dict({"text": ["the film was good", "a bad plot and music", "fine"], "label": [1, 0, 1]})
    batches = walking.samples(rows, model, None)
    places = walking.ordinary(batches, model)
    special = set(model.processor.all_special_ids)
    for batch, mask in zip(batches, places, strict=True):
        assert [[int(token) not in special for token in row] for row in batch["input_ids"]] == mask.tolist()
    counts = {}
    for skipped in (False, True):
        settings = how(places=places if skipped else ())
        for block in walking.walk(model, batches, model.matrices(), tmp_path / str(skipped), settings):
            counts[skipped] = {group.statistic.count for group in block.groups()}
    assert counts[False] == {sum(batch["input_ids"].numel() for batch in batches)}
    assert counts[True] == {sum(int(mask.sum()) for mask in places)}


def test_a_decoder_behind_an_encoder_counts_all_its_positions(tmp_path):
    """They are others than the encoder's, even where there are as many."""
    tiny.save("bart", tmp_path / "bart")
    model = models.load(tmp_path / "bart", "text-classification")
    batches = [{"input_ids": torch.tensor([[2, 7, 8, 9, 3], [2, 9, 9, 7, 3]])}]
    places = walking.ordinary(batches, model)
    counts = {}
    for block in walking.walk(model, batches, model.matrices(), tmp_path / "scratch", how(places=places)):
        stack = "encoder" if "encoder" in block.part.name else "decoder"
        counts.setdefault(stack, set()).update(group.statistic.count for group in block.groups())
    assert counts == {"encoder": {int(places[0].sum())}, "decoder": {10}}


@pytest.mark.parametrize("name", ["bert", "deberta-v2", "modernbert", "t5-gated", "bart"])
def test_blocks_of_every_kind_are_shown_what_they_see_in_the_model(name, tmp_path):
    tiny.save(name, tmp_path / name)
    model = models.load(tmp_path / name, "text-classification")
    draw, shapes = torch.Generator().manual_seed(0), ((1, 9), (4, 9), (3, 12))
    batches = [{"input_ids": torch.randint(5, 30, shape, generator=draw)} for shape in shapes]
    for batch in batches:
        # What these decoders read the class from.
        batch["input_ids"][:, -1] = 3
    wanted = seen_in_the_model(model, batches)
    found = measured(model, batches, tmp_path / "scratch", how(sequential=True))
    assert found.keys() <= wanted.keys()
    for matrix, hessian in found.items():
        total, count = wanted[matrix]
        assert torch.allclose(hessian.double(), 2 / count * total, rtol=1e-3, atol=1e-4), matrix
    assert len(found) == len(model.matrices())
