"""Batches on this machine, as a user meets them: to the end, again, killed, cancelled."""

import fcntl
import json
import os
import shutil
import signal
from pathlib import Path

import pytest

from compressit import store
from compressit.batch import driving
from compressit.jobs import attempt
from compressit.store import owners


def tries(place, name, job):
    return sorted((place / "runs" / ".batches" / name / "jobs" / job).glob("*/[0-9]*"))


def standing(cli, place, name):
    done = cli("batch", "status", name, "--json", cwd=place)
    return {each["name"]: each for each in json.loads(done.stdout)["jobs"]}


@pytest.fixture(scope="module")
def ran(place, started):
    """All three recipes."""
    process = started("batch", "recipes/*.yaml", "--on", "local:2", "--no-waterfall", cwd=place)
    said = process.communicate(timeout=300)[0]
    return process.returncode, said


def test_one_failure_hides_no_other_result(place, ran, cli):
    code, said = ran
    assert code == 2, said
    for name in ("fine", "missed"):
        assert store.verify(place / "runs" / name) == []
    assert not (place / "runs" / "broken").exists()
    assert "the recipe expects" in said
    stands = standing(cli, place, "recipes")
    assert {name: (each["state"], each["exit_code"], each["tries"]) for name, each in stands.items()} == {
        "fine": ("done", 0, 1), "missed": ("done", 3, 1), "broken": ("failed", 2, 1),
    }  # fmt: skip
    assert stands["fine"]["last_try"]["peak_memory"] > 100e6
    assert stands["fine"]["figures"]["checkpoint"]["accuracy"] >= 0
    whole = (place / "runs" / ".batches" / "recipes" / "report.md").read_text()
    for part in ("2 done, 1 failed", "missed against fine", "| FAIL |", "the recipe expects"):
        assert part in whole
    logs = cli("batch", "logs", "recipes", "broken", cwd=place).stdout
    assert "broken: failed, 1 tries" in logs
    assert "the recipe expects" in logs
    assert "drop_layers" not in logs


def test_run_again_it_does_only_what_may_go_well_now(place, ran, cli):
    before = {file: file.stat().st_mtime_ns for file in (place / "runs").glob("*/manifest.json")}
    shutil.move(place / "runs" / "fine", place / "elsewhere")
    arguments = ("batch", "recipes/*.yaml", "--on", "local:2", "--no-waterfall")
    done = cli(*arguments, cwd=place)
    assert done.returncode == 2, done
    stands = standing(cli, place, "recipes")
    assert {name: each["tries"] for name, each in stands.items()} == {
        "fine": 2, "missed": 1, "broken": 1,
    }  # fmt: skip
    after = {file: file.stat().st_mtime_ns for file in (place / "runs").glob("*/manifest.json")}
    assert {file for file in before if before[file] != after[file]} == {place / "runs" / "fine" / "manifest.json"}
    assert "2 done, 1 failed (1 by an earlier batch)" in done.stdout
    weights = Path("checkpoint") / "model.safetensors"
    assert (place / "elsewhere" / weights).read_bytes() == (place / "runs" / "fine" / weights).read_bytes()


def test_what_stands_in_the_way_is_told_before_any_work(place, ran, cli):
    other = cli("batch", "recipes/fine.yaml", "--set", "name=missed", cwd=place)
    assert other.returncode == 2
    assert "missed exists already" in other.stderr
    assert "--overwrite" in other.stderr
    spoilt = place / "runs" / "fine" / "report.md"
    text = spoilt.read_text()
    spoilt.write_text(text + "more")
    done = cli("batch", "recipes/fine.yaml", "--name", "recipes", "--dry-run", cwd=place)
    spoilt.write_text(text)
    assert done.returncode == 2
    assert "report.md" in done.stderr
    # What `apply` made of the same recipe counts as done.
    shutil.copytree(place / "runs" / "fine", place / "mine" / "fine")
    done = cli("batch", "recipes/fine.yaml", "-o", "mine", "--json", cwd=place)
    assert (done.returncode, json.loads(done.stdout)["jobs"][0]["before"]) == (0, True)


def test_killed_at_any_moment_it_goes_on_and_does_nothing_twice(place, started, until, cli):
    arguments = ("batch", "recipes/fine.yaml", "--matrix", "seed=5,6", "--name", "storm", "--on", "local:2")
    driver = started(*arguments, cwd=place)
    worker = until(lambda: began(place, "fine-seed5"))
    # The process that watches over a job is lost with it, as with a machine.
    os.kill(owners.pid(worker.worker), signal.SIGKILL)
    until(lambda: len(tries(place, "storm", "fine-seed5")) == 2)
    driver.send_signal(signal.SIGKILL)
    driver.communicate()
    second = started(*arguments, cwd=place)
    until(lambda: driving.busy(place / "runs" / ".batches" / "storm"))
    third = cli(*arguments, cwd=place)
    assert (third.returncode, "another process is at the batch storm" in third.stderr) == (75, True)
    said = second.communicate(timeout=300)[0]
    assert second.returncode == 0, said
    stands = standing(cli, place, "storm")
    assert {name: (each["state"], each["tries"]) for name, each in stands.items()} == {
        "fine-seed5": ("done", 2), "fine-seed6": ("done", 1),
    }  # fmt: skip
    for name in stands:
        assert store.verify(place / "runs" / name) == []
        logs = "".join((each / "log.txt").read_text() for each in tries(place, "storm", name))
        assert logs.count("saved in") == 1
    assert list((place / "runs").glob(".fine*")) == []


def test_who_only_looks_at_a_batch_keeps_nobody_from_it(tmp_path, monkeypatch):
    with (tmp_path / ".lock").open("a") as looking:
        fcntl.flock(looking, fcntl.LOCK_EX)
        monkeypatch.setattr(driving.time, "sleep", lambda seconds: fcntl.flock(looking, fcntl.LOCK_UN))
        with driving.alone(tmp_path):
            assert driving.busy(tmp_path)


def began(place, job):
    made = tries(place, "storm", job)
    found = attempt.begun(made[-1]) if made else None
    return found if found is not None and found.child else None


def test_a_cancelled_job_ends_and_is_taken_up_again(place, started, until, cli):
    slow = "steps=[{step: drop_layers, keep: 2}, {step: finetune, epochs: 10000}]"
    arguments = ("batch", "recipes/fine.yaml", "--matrix", "seed=1,2", "--name", "slow", "--set", slow, "-o", "slow")
    driver = started(*arguments, cwd=place)
    until(lambda: list((place / "slow").glob(".batches/slow/jobs/fine-seed2/*/1/job.json")))
    told = cli("batch", "cancel", "slow", "fine-seed2", "-o", "slow", cwd=place)
    assert (told.returncode, told.stdout) == (0, "1 of 1 jobs cancelled\n")
    until(lambda: list((place / "slow").glob(".batches/slow/jobs/fine-seed1/*/1/begun.0.json")))
    told = cli("batch", "cancel", "slow", "-o", "slow", cwd=place)
    said = driver.communicate(timeout=120)[0]
    assert driver.returncode == 130, said
    assert "fine-seed1: cancelled" in said
    assert [path.name for path in (place / "slow").iterdir()] == [".batches"]
    # An interrupted batch ends its jobs, too.
    driver = started(*arguments, cwd=place)
    until(lambda: list((place / "slow").glob(".fine-seed1.tmp-*")))
    driver.send_signal(signal.SIGINT)
    said = driver.communicate(timeout=120)[0]
    assert driver.returncode == 130, said
    assert [path.name for path in (place / "slow").iterdir()] == [".batches"]
    # It goes on when it is run again, and what takes too long is not tried a second time.
    again = cli(*arguments, "--timeout", "1", "--on", "local:2", cwd=place)
    assert again.returncode == 5
    assert again.stdout.count("its time was over") == 2
    assert [path.name for path in (place / "slow").iterdir()] == [".batches"]


def test_results_behind_a_url(place, started, cli):
    """Sent there by the jobs, found there by the next batch; what a batch knows of its jobs stays here."""
    there = place / "bucket" / "runs"
    arguments = ("batch", "recipes/fine.yaml", "recipes/missed.yaml", "-o", f"file://{there}", "--name", "away")
    process = started(*arguments, "--no-waterfall", cwd=place)
    said = process.communicate(timeout=300)[0]
    assert process.returncode == 3, said
    assert "results behind a URL are not compared" in said
    assert sorted(path.name for path in there.iterdir()) == ["fine", "missed"]
    assert [store.verify(path) for path in there.iterdir()] == [[], []]
    stands = standing(cli, place, "away")
    assert {name: (each["state"], each["output"]) for name, each in stands.items()} == {
        name: ("done", f"file://{there}/{name}") for name in ("fine", "missed")
    }
    assert stands["fine"]["figures"]["checkpoint"]["accuracy"] >= 0
    (there / "missed" / "report.md").unlink()
    told = cli(*arguments, "--dry-run", cwd=place)
    assert told.returncode == 2
    assert "report.md: missing" in told.stderr
    assert "--overwrite does it again" in told.stderr
    again = cli(*arguments, "--no-waterfall", "--overwrite", "--json", cwd=place)
    assert again.returncode == 3, again.stderr
    assert [(each["before"], each["tries"]) for each in json.loads(again.stdout)["jobs"]] == [(True, 1), (False, 2)]
    assert store.verify(there / "missed") == []
    # Such a URL would lie in its notes.
    secret = cli("batch", "recipes/fine.yaml", "-o", "sftp://me:secret@host/runs", cwd=place)
    assert secret.returncode in (2, 5)
    assert "secret" not in secret.stderr
