"""Runs that are killed, interrupted or terminated: nothing half-written, and the next one goes on."""

import functools
import os
import re
import signal
import subprocess
import sys
import time

import pytest

import compressit

LONG = """\
name: long
task: text-classification
model: {model}
dataset: {{path: {data}, train: train.jsonl, evaluation: "test.jsonl[:20]", columns: {{text: sentence}}}}
steps:
  - step: finetune
    epochs: 8
    batch_size: 8
metrics: [accuracy]
"""


def start(file, output, cache):
    arguments = [sys.executable, "-m", "compressit", "apply", str(file), "-o", str(output)]
    environment = {**os.environ, "COMPRESSIT_CACHE": str(cache)}
    # A shell that starts the tests in the background has them, and so their children, ignore Ctrl-C.
    listen = functools.partial(signal.signal, signal.SIGINT, signal.default_int_handler)
    return subprocess.Popen(arguments, env=environment, stderr=subprocess.PIPE, text=True, preexec_fn=listen)


def until(ready, seconds=120):
    for _ in range(seconds * 20):
        if ready():
            return
        time.sleep(0.05)
    raise AssertionError("it never came")


def test_a_killed_run_goes_on_and_ends_with_the_same_bytes(sentiment, tmp_path):
    file = tmp_path / "long.yaml"
    file.write_text(LONG.format(model=sentiment / "model", data=sentiment))
    cache = tmp_path / "cache"
    with start(file, tmp_path / "out", cache) as killed:
        until(lambda: len([*cache.glob("unfinished/*/step-1/checkpoint-*/trainer_state.json")]) > 0)
        killed.send_signal(signal.SIGKILL)
    assert not (tmp_path / "out").exists()
    with start(file, tmp_path / "out", cache) as again:
        said = again.communicate(timeout=300)[1]
    assert again.returncode == 0, said
    assert not [*cache.glob("unfinished/*")], "nothing is left of a finished run"
    with start(file, tmp_path / "whole", tmp_path / "other") as whole:
        whole.communicate(timeout=300)
    saved = [(tmp_path / name / "checkpoint" / "model.safetensors").read_bytes() for name in ("out", "whole")]
    assert saved[0] == saved[1]


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_an_interrupted_run_says_so_and_leaves_nothing(number, code, sentiment, tmp_path):
    file = tmp_path / "long.yaml"
    file.write_text(LONG.format(model=sentiment / "model", data=sentiment))
    with start(file, tmp_path / "out", tmp_path / "cache") as run:
        for line in run.stderr:
            if "step 1" in line:
                break
        run.send_signal(number)
        said = run.communicate(timeout=60)[1]
    assert run.returncode == code
    assert re.search("nothing was published", said)
    assert "Traceback" not in said
    assert sorted(path.name for path in tmp_path.iterdir()) == ["cache", "long.yaml"]


def test_examples_that_are_in_both_splits_are_told(sentiment, tmp_path):
    file = tmp_path / "r.yaml"
    text = LONG.format(model=sentiment / "model", data=sentiment)
    file.write_text(text.replace("test.jsonl[:20]", "train.jsonl[:20]").replace("epochs: 8", "epochs: 1"))
    report = compressit.apply(file, tmp_path / "out")
    assert report.provenance.data["also in train"] == 20
