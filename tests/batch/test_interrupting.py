"""A batch that is interrupted ends, and its jobs with it, whenever that comes."""

import signal
import sys

import pytest

from compressit import store
from compressit.batch import Task, driving
from compressit.batch.driving import Manner
from compressit.engines import Phase


class Slow:
    """An engine whose processes take a while to be there, and can't be told anything before."""

    outlives = False
    pause = 0.01

    def __init__(self):
        self.asked, self.ended = 0, False

    def submit(self, tries):
        return {folder: "one" for folder in tries}

    def poll(self, submissions):
        self.asked += 1
        phase = Phase.GONE if self.ended else Phase.RUNNING if self.asked > 5 else Phase.WAITING
        return dict.fromkeys(submissions, phase)

    def cancel(self, submission):
        self.ended = self.asked > 5

    def logs(self, submission):
        return ""


class Falling:
    """Python only prints what is raised while an object goes."""

    def __del__(self):
        signal.raise_signal(signal.SIGINT)


@pytest.mark.parametrize("lost", [True, False], ids=["swallowed", "heard"])
def test_no_interrupt_is_lost_and_no_job_outlives_it(lost, tmp_path, monkeypatch):
    said, engine = [], Slow()
    monkeypatch.setattr(sys, "unraisablehook", said.append)
    monkeypatch.setattr(driving, "LEAVING", 30.0)
    task = Task("one", "one.yaml", b"name: one", "0" * 64, "0" * 64, store.place(str(tmp_path / "out")))
    shown = []

    def show(stood):
        shown.append(stood)
        assert len(shown) < 100, "nobody heard it"
        if len(shown) == 2:
            Falling() if lost else signal.raise_signal(signal.SIGINT)

    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        with pytest.raises(KeyboardInterrupt):
            driving.drive(tmp_path / "batch", [task], engine, Manner("local"), show, said.append)
        assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
    finally:
        signal.signal(signal.SIGINT, before)
    assert engine.ended, "it is told once it is there"
    assert [each.exc_type for each in said] == [KeyboardInterrupt] * lost
