"""Signals that end a command, at the worst of times, too."""

import signal
import subprocess
import sys

import pytest

DROPPING = """
import signal, time
from compressit.cli import signals

class Falling:
    def __init__(self, does):
        self.does = does

    def __del__(self):
        self.does()  # Python only prints what is raised in here

# A shell that starts the tests in the background has them ignore it.
signal.signal(signal.SIGINT, signal.default_int_handler)
signals.heed()
Falling(lambda: signal.raise_signal(signal.{name}))
if {twice}:
    Falling(lambda: time.sleep(10))
time.sleep(100)
print("nobody heard it")
"""


@pytest.mark.parametrize("twice", [False, True], ids=["once", "twice"])
@pytest.mark.parametrize(("name", "code"), [("SIGTERM", 143), ("SIGUSR1", 75), ("SIGINT", -signal.SIGINT)])
def test_what_python_drops_ends_the_command_all_the_same(name, code, twice):
    script = DROPPING.format(name=name, twice=twice)
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False, timeout=60)
    assert done.returncode == code, done.stderr
    assert "Exception ignored" not in done.stderr
    assert done.stdout == ""
