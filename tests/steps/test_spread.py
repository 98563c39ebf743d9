"""`spread: measured`: as many zeros over all, fewer where the answers feel them."""

from pathlib import Path

import pytest
import torch

from compressit import data, model, steps
from compressit.progress import Silent
from compressit.steps import StepContext
from tests.conftest import linears

TASK = "text-generation"


def rows(storyteller, split):
    spec = data.DatasetSpec(path=str(storyteller), evaluation="test.txt")
    return data.rows(spec, split, TASK, {}, Path.cwd())


@pytest.fixture(scope="module")
def pruned(storyteller, tmp_path_factory):
    """What each step makes of a model that has learned something, spread evenly and as measured: (model, notes)."""
    found = {}
    calibration = rows(storyteller, "train.txt[:80]")
    for name in ("prune_magnitude", "prune_wanda"):
        for spread in ("even", "measured"):
            own = model.load(storyteller / "model", TASK)
            scratch = tmp_path_factory.mktemp("spread")
            module = steps.load(name)
            config = module.Config(step=name, sparsity=0.7, spread=spread)
            given = StepContext(None, calibration, None, "cpu", 0, Silent(), scratch / "scratch", max_length=64)
            notes = module.run(own, config, given)
            own.save(scratch / "saved")
            assert module.claim(scratch / "saved", config) is None
            found[name, spread] = own, notes
    return storyteller, found


def loss(storyteller, found):
    """Nats for each token of the test text."""
    total = count = 0.0
    with torch.inference_mode():
        for _, batch in data.batches(rows(storyteller, "test.txt"), found, 8, 64):
            labels = batch.pop("labels")[:, 1:]
            logits = found.module(**batch).logits[:, :-1]
            total += float(torch.nn.functional.cross_entropy(logits.flatten(0, 1), labels.flatten(), reduction="sum"))
            count += int((labels != -100).sum())
    return total / count


def test_as_many_zeros_over_all_and_not_the_same_everywhere(pruned):
    _, found = pruned
    for (name, spread), (own, notes) in found.items():
        assert notes["sparsity"] == pytest.approx(0.7, abs=0.01), (name, spread)
        shares = {round(float((layer.weight == 0).float().mean()), 2) for layer in linears(own).values()}
        assert (len(shares) > 3) == (spread == "measured"), (name, spread)


def test_less_is_lost(pruned):
    storyteller, found = pruned
    for name in ("prune_magnitude", "prune_wanda"):
        even, measured = (loss(storyteller, found[name, spread][0]) for spread in ("even", "measured"))
        assert measured < even, (name, even, measured)


@pytest.mark.parametrize("fields", [{"pattern": "2:4", "spread": "measured"},
                                    {"sparsity": 0.5, "scope": "global", "spread": "measured"}])  # fmt: skip
def test_what_decides_twice_is_refused(fields):
    with pytest.raises(ValueError, match="spread: measured"):
        steps.load("prune_magnitude").Config(step="prune_magnitude", **fields)


def test_it_asks_for_calibration_data_and_keeps_the_model_in_memory():
    config = steps.load("prune_magnitude").Config(step="prune_magnitude", sparsity=0.5, spread="measured")
    assert config.needs() == {steps.Need.CALIBRATION}
    assert not config.streaming()
