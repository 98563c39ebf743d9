"""`spread: measured`: as many zeros over all, fewer where the answers feel them."""

from pathlib import Path

import pytest
import torch

from compressit import data, model, steps
from compressit.progress import Silent
from compressit.steps import StepContext
from tests.conftest import linears

TASK = "text-classification"


@pytest.fixture(scope="module")
def pruned(sentiment, tmp_path_factory):
    """What each step makes of a model that has learned something, spread evenly and as measured: (model, notes)."""
    spec = data.DatasetSpec(path=str(sentiment), evaluation="test.jsonl", columns={"text": "sentence"})
    labels = model.labels(sentiment / "model")
    rows = data.rows(spec, "train.jsonl[:100]", TASK, labels, Path.cwd())
    found = {}
    for name in ("prune_magnitude", "prune_wanda", "prune_sparsegpt"):
        for spread in ("even", "measured"):
            own = model.load(sentiment / "model", TASK)
            scratch = tmp_path_factory.mktemp("spread")
            module = steps.load(name)
            config = module.Config(step=name, sparsity=0.7, spread=spread)
            notes = module.run(own, config, StepContext(None, rows, None, "cpu", 0, Silent(), scratch / "scratch"))
            own.save(scratch / "saved")
            assert module.claim(scratch / "saved", config) is None
            found[name, spread] = own, notes
    return sentiment, found


def moved(sentiment, found):
    """How far the answers to the test split are from the original's, in nats."""
    original = model.load(sentiment / "model", TASK)
    spec = data.DatasetSpec(path=str(sentiment), evaluation="test.jsonl", columns={"text": "sentence"})
    rows = data.rows(spec, "test.jsonl", TASK, model.labels(sentiment / "model"), Path.cwd())
    total = 0.0
    with torch.inference_mode():
        for _, batch in data.batches(rows, original, 50):
            inputs = {key: value for key, value in batch.items() if key != "labels"}
            before, after = (each.module(**inputs).logits.log_softmax(-1) for each in (original, found))
            total += float((before.exp() * (before - after)).sum())
    return total / len(rows)


def test_as_many_zeros_over_all_and_not_the_same_everywhere(pruned):
    _, found = pruned
    for (name, spread), (own, notes) in found.items():
        assert notes["sparsity"] == pytest.approx(0.7, abs=0.01), (name, spread)
        shares = {round(float((layer.weight == 0).float().mean()), 2) for layer in linears(own).values()}
        assert (len(shares) > 3) == (spread == "measured"), (name, spread)


def test_the_answers_move_less(pruned):
    sentiment, found = pruned
    for name in ("prune_magnitude", "prune_wanda", "prune_sparsegpt"):
        even, measured = (moved(sentiment, found[name, spread][0]) for spread in ("even", "measured"))
        assert measured < even, name


@pytest.mark.parametrize("fields", [{"pattern": "2:4", "spread": "measured"},
                                    {"sparsity": 0.5, "scope": "global", "spread": "measured"}])  # fmt: skip
def test_what_decides_twice_is_refused(fields):
    with pytest.raises(ValueError, match="spread: measured"):
        steps.load("prune_magnitude").Config(step="prune_magnitude", **fields)


def test_it_asks_for_calibration_data_and_keeps_the_model_in_memory():
    config = steps.load("prune_magnitude").Config(step="prune_magnitude", sparsity=0.5, spread="measured")
    assert config.needs() == {steps.Need.CALIBRATION}
    assert not config.streaming()
