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
from compressit.errors import DataError

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
        until(lambda: len([*cache.glob("unfinished/*/checkpoint-*/trainer_state.json")]) > 0)
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


def test_examples_that_are_in_both_splits_are_told_and_refused_unless_allowed(sentiment, tmp_path):
    file = tmp_path / "r.yaml"
    text = LONG.format(model=sentiment / "model", data=sentiment)
    text = text.replace("test.jsonl[:20]", "train.jsonl[:20]").replace("epochs: 8", "epochs: 1")
    file.write_text(text)
    with pytest.raises(DataError, match=r"20 of 20 examples .* are in the train split too") as refused:
        compressit.apply(file, tmp_path / "out")
    assert "max_leak: 1.0" in refused.value.hint
    report = compressit.apply(file, tmp_path / "out", overrides=("dataset.max_leak=1.0",))
    assert report.provenance.data["also in train"] == 20


@pytest.mark.parametrize(
    ("figure", "refused"),
    [("{metric: accuracy, value: 0.5}", True), ("{metric: accuracy, value: 0.9, within: 0.2}", False)],
)
def test_a_broken_baseline_stops_a_run_before_any_work(sentiment, tmp_path, figure, refused):
    file = tmp_path / "r.yaml"
    text = LONG.format(model=sentiment / "model", data=sentiment).replace("[:20]", "[:100]")
    file.write_text(text.replace("epochs: 8", "epochs: 1") + f"expect: [{figure}]\n")
    if refused:
        with pytest.raises(DataError, match=r"the original's accuracy is .* expects 0\.5000; nothing was compressed"):
            compressit.apply(file, tmp_path / "out")
        assert not (tmp_path / "out").exists()
    else:
        compressit.apply(file, tmp_path / "out")
