"""Measured as saved, in processes of their own, run by run beside the original."""

import os
import signal
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import nullcontext
from dataclasses import replace

import numpy as np
import psutil
import pytest

from compressit import data
from compressit import model as models
from compressit.data import DatasetSpec
from compressit.errors import CompressitError, ExitCode, StepError
from compressit.measure import Beside, Setting, Subject, measure, measuring, processes
from compressit.measure.memory import Peak
from compressit.measure.processes import forks as forks_of_its_own  # before all runs of a session share one

TASK = "text-classification"


@pytest.fixture(scope="module", params=["started", "forked"])
def setting(request, sentiment, tmp_path_factory):
    spec = DatasetSpec(path=str(sentiment), evaluation="test.jsonl", columns={"text": "sentence"})
    rows = data.rows(spec, "test.jsonl[:50]", TASK, {0: "NEGATIVE", 1: "POSITIVE"}, sentiment)
    folder = tmp_path_factory.mktemp("rows")
    rows.save_to_disk(str(folder))
    with processes.forks() if request.param == "forked" else nullcontext() as forks:
        yield Setting(TASK, str(folder), 0, forks=forks)


def test_predictions_come_in_the_order_of_the_rows(setting, sentiment):
    import datasets
    import torch

    found = measure(Subject(str(sentiment / "model"), "torch"), setting, batch_size=7)
    rows = datasets.load_from_disk(setting.rows)
    model = models.load(sentiment / "model", TASK)
    for place in (0, 13, 49):
        with torch.inference_mode():
            alone = model.module(**model.processor(rows[place]["text"], return_tensors="pt")).logits[0].numpy()
        assert np.allclose(found.predictions.logits[place], alone, atol=1e-5)
    assert found.predictions.labels.tolist() == rows["label"][:]
    assert found.predictions.examples.tolist() == data.fingerprints(rows).tolist()
    assert found.facts.parameters == model.module.num_parameters()
    assert found.memory > 0
    assert found.timings == {}


def test_timings_lie_side_by_side_and_a_model_is_as_fast_as_itself(setting, sentiment):
    original = Subject(str(sentiment / "model"), "torch")
    found = measure(original, setting, Beside(original, original, (1, 4)))
    assert {*found.timings} == {1, 4}
    for timing in found.timings.values():
        assert len(timing.artifact) == len(timing.baseline) == len(timing.again) >= 21
        assert timing.original is timing.baseline
        assert bool((timing.artifact > 0).all())


def test_what_fails_in_the_other_process_fails_here_with_its_kind(setting, tmp_path):
    (tmp_path / "config.json").write_text("{}")
    with pytest.raises(CompressitError, match=r"measuring .* holds no tokenizer") as caught:
        measure(Subject(str(tmp_path), "torch"), setting)
    assert caught.value.exit_code is ExitCode.FAILED


def test_what_breaks_the_other_process_is_told_with_its_last_words(setting, tmp_path):
    with pytest.raises(StepError, match=r"(?s)measuring it failed \(exit 1\).*KeyError: 'dance'"):
        processes.in_process({"do": "dance", "setting": {"forks": setting.forks}}, str(tmp_path), "measuring it")


def test_a_kill_is_told_apart_and_harms_nobody_else(setting, sentiment):
    original = Subject(str(sentiment / "model"), "torch")
    with ThreadPoolExecutor() as pool:
        first = pool.submit(measure, original, setting)
        at_work = at_work_on(setting)
        second = pool.submit(measure, original, setting)
        os.kill(at_work, signal.SIGKILL)
        with pytest.raises(StepError, match="killed, most likely for want of memory"):
            first.result(60)
        assert second.result(60).facts.parameters > 0


def test_what_still_measures_ends_where_nobody_waits_for_it(setting, sentiment):
    with measuring(Subject(str(sentiment / "model"), "torch"), setting):
        at_work = psutil.Process(at_work_on(setting))
    at_work.wait(60)


def test_where_who_forks_is_ended_nobody_measures_instead(setting, sentiment):
    """A signal that ends a run and all that belongs to it comes to them at once."""
    before = {*psutil.Process().children()}
    with forks_of_its_own() as forks:
        (who,) = {*psutil.Process().children()} - before
        with measuring(Subject(str(sentiment / "model"), "torch"), replace(setting, forks=forks)) as outcome:
            who.terminate()
            with pytest.raises(StepError, match="killed"):
                outcome()
            assert not [each for each in psutil.Process().children(recursive=True) if processes.CHILD in command(each)]


def command(process):
    try:
        return process.cmdline()
    except psutil.Error:
        return []


def at_work_on(setting):
    """Wait for a process that measures, and give its number."""
    for _ in range(600):
        below = {each: command(each) for each in psutil.Process().children(recursive=True)}
        forking = [each for each, line in below.items() if "compressit.measure.forking" in line]
        if setting.forks:
            found = [each for each in below if each.parent() in forking]
        else:
            found = [each for each, line in below.items() if "compressit.measure.child" in line]
        if found:
            return found[0].pid
        time.sleep(0.02)
    raise AssertionError("nobody measures")


def test_the_peak_sees_what_was_taken_and_given_back():
    with Peak("cpu") as peak:
        # More than the allocator takes from what it holds already, however much that is.
        taken = np.ones(100_000_000, np.uint8)
        del taken
    assert 95_000_000 < peak.bytes < 140_000_000
