"""Steps on encoder-decoders that write: those of other makers are cut and rounded as T5 and BART are."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch

from compressit import model as models
from compressit import steps, tasks, weights
from compressit.errors import RecipeError, StepError

NAMES = ["marian-writes", "mbart-writes", "m2m-writes", "pegasus-writes", "mt5-writes"]
CUTS = [("drop_layers", {"keep": 2, "stack": "decoder", "choose": "influence"}), ("prune_heads", {"sparsity": 0.5}),
        ("prune_ffn", {"sparsity": 0.5}), ("prune_wanda", {"sparsity": 0.5}),
        ("distill", {"epochs": 1, "batch_size": 16})]  # fmt: skip


def written(model, rows):
    """What a model writes of some rows."""
    task = tasks.load(model.task)
    prepared = task.prepare(rows.select(range(6)), model.processor, None)
    ask = tasks.asker(model.task, model.processor, None)
    batch = task.collate(model.processor)(list(prepared))
    return ask(model.module, {**batch, "max_new_tokens": torch.tensor([6]), "num_beams": torch.tensor([2])}).tolist()


@pytest.mark.parametrize("name", NAMES)
def test_one_step_after_the_other_and_it_still_writes(name, opened, context, logits, tmp_path):
    model = opened(name)
    given = context(model, count=24)
    for step, fields in CUTS:
        module = steps.load(step)
        module.run(model, module.Config(step=step, **fields), replace(given, scratch=tmp_path / step))
    before, said = logits(model, given), written(model, given.train)
    assert bool(torch.isfinite(before).all())
    model.save(tmp_path / "saved")
    again = models.load(tmp_path / "saved", model.task)
    assert torch.equal(logits(again, given), before)
    assert written(again, given.train) == said
    assert weights.read(tmp_path / "saved").parameters < 0.85 * weights.read(Path(model.source)).parameters


@pytest.mark.parametrize("name", ["marian-writes", "m2m-writes", "pegasus-writes"])
def test_no_channel_goes_where_positions_are_computed_for_one_width(name, opened, context, family):
    step, model = steps.load("prune_width"), opened(name)
    config = step.Config(step="prune_width", sparsity=0.5)
    with pytest.raises(StepError, match=r"positions of .* are computed for the width it has"):
        step.run(model, config, context(model, count=8))
    with pytest.raises(RecipeError, match="no channel can go"):
        step.foresee(weights.read(family(name)), config)
