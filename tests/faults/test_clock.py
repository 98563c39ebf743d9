"""A clock that is a day off, and files that are older than they were: nothing is done again, no time is negative."""

import os
import subprocess
import sys

import pytest

from compressit import report as reports
from tests.faults.test_runs import RECIPE

# What a child imports before anything else: the wall clock runs a day behind, and jumps back an hour at each look.
SITE = """
import itertools, time
now, looks = time.time, itertools.count()
time.time = lambda: now() - 86400 - 3600 * next(looks)
"""


@pytest.fixture(scope="module")
def twice(sentiment, tmp_path_factory):
    """The same recipe, first with an honest clock, then with one that goes backwards and inputs of another time."""
    folder = tmp_path_factory.mktemp("clock")
    (folder / "r.yaml").write_text(RECIPE.format(model=sentiment / "model", data=sentiment))
    (folder / "site").mkdir()
    (folder / "site" / "sitecustomize.py").write_text(SITE)
    environment = {**os.environ, "COMPRESSIT_CACHE": str(folder / "cache")}
    command = [sys.executable, "-m", "compressit", "apply", folder / "r.yaml", "--no-waterfall", "-o"]
    subprocess.run([*command, folder / "one"], env=environment, capture_output=True, check=True)
    held = {file: file.stat().st_mtime for file in sentiment.rglob("*") if file.is_file()}
    for file, time in held.items():
        os.utime(file, (time - 86400, time - 86400))
    behind = {**environment, "PYTHONPATH": os.pathsep.join([str(folder / "site"), os.environ.get("PYTHONPATH", "")])}
    done = subprocess.run([*command, folder / "two"], env=behind, capture_output=True, text=True, check=False)
    for file, time in held.items():
        os.utime(file, (time, time))
    return folder, done


def test_nothing_is_done_again(twice):
    _, done = twice
    assert done.returncode == 0, done.stderr
    assert done.stderr.count("kept from before") == 2


def test_durations_are_those_of_a_clock_that_only_goes_forward(twice):
    folder, _ = twice
    for name in ("one", "two"):
        found = reports.read(folder / name)
        assert found.provenance.seconds > 0
        assert all(step.seconds >= 0 for step in found.steps)
