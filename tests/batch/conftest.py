"""A folder with small recipes, and batches of them as a user runs them."""

import functools
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

RECIPE = """\
name: {name}
task: text-classification
model: {model}
dataset: {{path: {data}, train: "train.jsonl[:64]", evaluation: "test.jsonl[:20]", columns: {{text: sentence}}}}
steps:
  - step: drop_layers
    keep: 2
metrics: [accuracy, size]
"""


@pytest.fixture(scope="module")
def place(sentiment, tmp_path_factory):
    """A folder with recipes/: `fine`, `missed` with a target that can't be met, `broken` so that its run finds it."""
    place = tmp_path_factory.mktemp("batches")
    (place / "recipes").mkdir()
    for name in ("fine", "missed", "broken"):
        text = RECIPE.format(name=name, model=sentiment / "model", data=sentiment)
        if name == "missed":
            text += "targets: [{metric: size, max: 1 B}]\n"
        if name == "broken":
            text += "expect: [{metric: accuracy, value: 0.1}]\n"
        (place / "recipes" / f"{name}.yaml").write_text(text)
    return place


@pytest.fixture(scope="module")
def started():
    """Start the command line and don't wait for it; whatever is left at the end is killed."""
    running = []
    # A shell that starts the tests in the background has them, and so their children, ignore Ctrl-C.
    listen = functools.partial(signal.signal, signal.SIGINT, signal.default_int_handler)

    def start(*arguments: object, cwd: Path, **environment: str) -> subprocess.Popen:
        running.append(
            subprocess.Popen(
                [sys.executable, "-m", "compressit", *map(str, arguments)],
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                text=True,
                cwd=cwd,
                env={**os.environ, **environment},
                preexec_fn=listen,
            )
        )
        return running[-1]

    yield start
    for each in running:
        with each:
            each.kill()


@pytest.fixture(scope="module")
def until():
    """Wait for something to come about."""

    def until(condition, seconds=200):
        end = time.monotonic() + seconds
        while not (found := condition()):
            assert time.monotonic() < end, "it did not come about"
            time.sleep(0.05)
        return found

    return until
