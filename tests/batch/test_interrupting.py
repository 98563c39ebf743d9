"""A batch that is interrupted ends, and its jobs with it, whenever that comes."""

import signal

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


def test_no_job_outlives_an_interrupt(tmp_path, monkeypatch):
    engine = Slow()
    monkeypatch.setattr(driving, "LEAVING", 30.0)
    task = Task("one", "one.yaml", b"name: one", "0" * 64, "0" * 64, store.place(str(tmp_path / "out")))
    shown = []

    def show(stood):
        shown.append(stood)
        assert len(shown) < 100, "nobody heard it"
        if len(shown) == 2:
            signal.raise_signal(signal.SIGINT)

    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        with pytest.raises(KeyboardInterrupt):
            driving.drive(tmp_path / "batch", [task], engine, Manner("local"), show, shown.append)
    finally:
        signal.signal(signal.SIGINT, before)
    assert engine.ended, "it is told once it is there"
