"""Jobs, each a `compressit apply` in a process of its own: how they end, and that nothing of them stays behind."""

import hashlib
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from compressit import jobs, store
from compressit.errors import IntegrityError

RECIPE = """\
name: tiny
task: text-classification
model: {model}
dataset: {{path: {data}, train: "train.jsonl[:64]", evaluation: "test.jsonl[:20]", columns: {{text: sentence}}}}
steps:
  - step: drop_layers
    keep: 2
metrics: [accuracy, size]
"""
SLOW = RECIPE.replace("metrics:", "  - {{step: finetune, epochs: 10000}}\nmetrics:")


def job(sentiment, output, text=RECIPE, **settings):
    recipe = text.format(model=sentiment / "model", data=sentiment).encode()
    return jobs.Job(recipe, hashlib.sha256(recipe).hexdigest(), output, ("--no-waterfall",), **settings)


def group(leader):
    """List the processes of a group that still run."""
    found = []
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            fields = stat.read_text().rpartition(")")[2].split()
        except OSError:
            continue
        if fields[2] == str(leader) and fields[0] != "Z":
            found.append(int(stat.parent.name))
    return found


def wait(condition, seconds=200):
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "it did not come about"
        time.sleep(0.05)


def test_a_job_that_ends_well_and_one_that_can_not(sentiment, tmp_path):
    ended = jobs.run(job(sentiment, tmp_path / "out"), tmp_path / "job")
    log = (tmp_path / "job" / "log.txt").read_text()
    assert (ended.code, ended.signal, ended.timed_out, ended.finished, ended.passing) == (
        0,
        None,
        False,
        True,
        False,
    ), log
    assert store.verify(tmp_path / "out") == []
    assert ended.seconds > 0
    # PyTorch alone takes more.
    assert 100e6 < ended.peak_memory < 10e9
    assert "drop_layers" in log
    again = jobs.run(job(sentiment, tmp_path / "out"), tmp_path / "again")
    assert (again.code, again.finished, again.passing) == (2, False, False)
    assert "exists already" in (tmp_path / "again" / "log.txt").read_text()


def test_other_bytes_than_were_promised_are_not_run(sentiment, tmp_path):
    right = job(sentiment, tmp_path / "out")
    wrong = jobs.Job(right.recipe + b"#", right.sha256, right.output)
    with pytest.raises(IntegrityError, match="SHA-256"):
        jobs.run(wrong, tmp_path / "job")
    assert not (tmp_path / "job").exists()


def test_time_limits_and_whoever_leaves_end_all_of_a_job(sentiment, tmp_path):
    with jobs.start(job(sentiment, tmp_path / "out", SLOW), tmp_path / "left") as running:
        assert running.poll() is None
    assert group(running.pid) == []
    # Early on nobody has taken over SIGTERM yet; then it is the signal that ends the process.
    assert running.end().code == 143
    assert running.end().passing
    late = jobs.run(job(sentiment, tmp_path / "out", SLOW, timeout=1.0), tmp_path / "late")
    assert (late.code, late.timed_out, late.finished, late.passing) == (143, True, False, False)
    assert not (tmp_path / "out").exists()
    assert list(tmp_path.glob(".out*")) == []


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux ends a process with its parent")
def test_a_job_ends_with_whoever_started_it_though_that_was_killed(sentiment, tmp_path):
    (tmp_path / "recipe.yaml").write_bytes(job(sentiment, tmp_path / "out", SLOW).recipe)
    code = (
        "import hashlib, pathlib, sys, time\nfrom compressit import jobs\n"
        f"recipe = pathlib.Path({str(tmp_path / 'recipe.yaml')!r}).read_bytes()\n"
        f"made = jobs.Job(recipe, hashlib.sha256(recipe).hexdigest(), pathlib.Path({str(tmp_path / 'out')!r}))\n"
        f"with jobs.start(made, pathlib.Path({str(tmp_path / 'job')!r})) as running:\n"
        "    print(running.pid, flush=True)\n    time.sleep(600)\n"
    )
    with subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True, env=os.environ) as starter:
        leader = int(starter.stdout.readline())
        try:
            wait(lambda: list(tmp_path.glob(".out*")))
        finally:
            starter.send_signal(signal.SIGKILL)
    wait(lambda: group(leader) == [])
    assert not (tmp_path / "out").exists()
    assert list(tmp_path.glob(".out*")) == []
