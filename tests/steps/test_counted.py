"""What a step says of how far it is: it ends where it said it would, however rows become examples and updates."""

import re
from contextlib import contextmanager
from dataclasses import replace

import pytest

from compressit import data, steps
from compressit import model as models
from compressit.cli import console
from compressit.progress import Silent
from compressit.steps import StepContext


class Counted(Silent):
    """Keeps how much was to be done under each label, and how much was."""

    def __init__(self):
        self.found = []

    @contextmanager
    def bar(self, label, total):
        done = []
        yield done.append
        self.found.append((label, total, sum(done)))


@pytest.mark.parametrize(
    ("name", "fields"),
    [
        ("prune_heads", {"sparsity": 0.5, "importance": "taylor", "refit": False}),
        ("prune_ffn", {"sparsity": 0.5, "importance": "fisher"}),
        ("drop_layers", {"keep": 3, "choose": "influence"}),
    ],
)
def test_one_long_document_is_many_examples(name, fields, storyteller, tmp_path, capsys):
    (tmp_path / "long.txt").write_text(" ".join((storyteller / "train.txt").read_text().split()))
    spec = data.DatasetSpec(path=str(tmp_path), evaluation="long.txt", max_length=16)
    rows = data.rows(spec, "long.txt", "text-generation", {}, tmp_path)
    assert len(rows) == 1
    model, step, counted = models.load(storyteller / "model", "text-generation"), steps.load(name), Counted()
    given = StepContext(None, rows, None, "cpu", 0, counted, tmp_path / "scratch", max_length=16)
    step.run(model, step.Config(step=name, **fields), given)
    assert len(counted.found) >= 1
    for label, total, done in counted.found:
        assert done == total, label
    step.run(
        models.load(storyteller / "model", "text-generation"),
        step.Config(step=name, **fields),
        replace(given, progress=console._Lines(), scratch=tmp_path / "again"),
    )
    lines = re.findall(r"([\d,]+) of ([\d,]+), (-?\d+) s left", capsys.readouterr().err)
    assert lines
    assert all(int(left) >= 0 for _, _, left in lines)


@pytest.mark.parametrize(("size", "accumulate", "epochs"), [(16, 3, 2), (64, 4, 3), (16, 2, 1.5)])
def test_batches_that_are_left_of_an_epoch_are_an_update(size, accumulate, epochs, opened, context):
    model, step, counted = opened("distilbert"), steps.load("finetune"), Counted()
    config = step.Config(step="finetune", batch_size=size, accumulate=accumulate, epochs=epochs)
    notes = step.run(model, config, replace(context(model), progress=counted))
    assert counted.found == [("finetune", notes["updates"], notes["updates"])]
