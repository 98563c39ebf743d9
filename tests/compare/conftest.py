"""Finished runs to compare: two that differ truly, one that differs by nothing, one on other data and too large."""

import shutil

import pytest

import compressit

RECIPE = """\
name: {name}
task: text-classification
model: {folder}/model
dataset:
  path: {folder}
  train: train.jsonl[:100]
  evaluation: {evaluation}
  columns: {{text: sentence}}
steps:
  - {{step: drop_layers, keep: {keep}}}
metrics: [accuracy, f1, agreement, kl_divergence, {{metric: latency, batch_size: 4}}, size, parameters]
targets:
  - {{metric: size, max_ratio: {ratio}}}
"""


@pytest.fixture(scope="session")
def finished(sentiment, tmp_path_factory):
    """Folders of runs by name: three blocks of four, one block, the first again, and three judged on other rows."""
    place = tmp_path_factory.mktemp("finished")
    found = {}
    for name, keep, evaluation, ratio in (
        ("three", 3, "test.jsonl", 0.9),
        ("one", 1, "test.jsonl", 0.9),
        ("other", 3, "test.jsonl[:200]", 0.1),
    ):
        recipe = place / f"{name}.yaml"
        recipe.write_text(RECIPE.format(name=name, folder=sentiment, keep=keep, evaluation=evaluation, ratio=ratio))
        found[name] = place / "runs" / name
        compressit.apply(recipe, found[name], waterfall=False)
    found["same"] = shutil.copytree(found["three"], place / "runs" / "same")
    return found
