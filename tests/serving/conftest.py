"""One finished run, made once: a classifier with a block less, its checkpoint and its ONNX file."""

from pathlib import Path

import pytest

import compressit

RECIPE = """\
name: finished
task: text-classification
model: {model}
dataset:
  path: {data}
  evaluation: test.jsonl
  columns: {{text: sentence}}
steps:
  - step: drop_layers
    keep: 3
exports:
  - export: onnx
metrics: [accuracy, f1, size]
targets:
  - {{metric: accuracy, min: 0.6, artifact: checkpoint}}
"""


@pytest.fixture(scope="session")
def done(sentiment, tmp_path_factory) -> Path:
    """The folder of the run."""
    folder = tmp_path_factory.mktemp("finished")
    (folder / "recipe.yaml").write_text(RECIPE.format(model=sentiment / "model", data=sentiment))
    compressit.apply(folder / "recipe.yaml", folder / "done", waterfall=False)
    return folder / "done"
