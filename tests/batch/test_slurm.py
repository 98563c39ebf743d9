"""The array script for Slurm, run as Slurm would run it, and a batch on a real one where there is one."""

import json
import os
import shutil
import signal
import subprocess

import pytest

from compressit import store

# What a task of an array is told; where there is no Slurm, nothing is put back into its queue.
TASK = {"SLURM_ARRAY_JOB_ID": "17", "SLURM_ARRAY_TASK_ID": "0", "SLURM_RESTART_COUNT": "0"}
SLOW = "steps=[{step: drop_layers, keep: 2}, {step: finetune, epochs: 10000}]"


def printed(cli, place, *arguments):
    done = cli("batch", "recipes/fine.yaml", "--on", "slurm", "--dry-run", "--no-waterfall", *arguments, cwd=place)
    assert done.returncode == 0, done
    file = place / "array.sh"
    file.write_text(done.stdout)
    return file


def task(file, number, **told):
    environment = {**os.environ, **TASK, "SLURM_ARRAY_TASK_ID": str(number), **told}
    return subprocess.Popen(["bash", file], env=environment, cwd="/", stdout=subprocess.PIPE, stderr=subprocess.STDOUT)


def test_the_printed_script_does_what_the_batch_would(place, cli, started):
    file = printed(cli, place, "--name", "array", "--cpus", "3", "--timeout", "90m")
    text = file.read_text()
    for line in ("--array=0-0", "--requeue", "--signal=B:USR1@60", "--time=92", "--cpus-per-task=3"):
        assert f"#SBATCH {line}\n" in text
    for process in (task(file, 0), task(file, 0)):  # twice at once, and done once
        said = process.communicate(timeout=200)[0]
        assert process.returncode == 0, said
    assert store.verify(place / "runs" / "fine") == []
    done = cli("batch", "status", "array", "--json", cwd=place)
    assert [(each["state"], each["tries"]) for each in json.loads(done.stdout)["jobs"]] == [("done", 1)]
    assert printed(cli, place, "--name", "array").read_text() == "# nothing to do\n"


def test_a_warned_task_ends_with_75_and_begins_again(place, cli, until):
    file = printed(cli, place, "--name", "warned", "--set", SLOW, "-o", "warned")
    process = task(file, 0)
    until(lambda: list((place / "warned").glob(".fine.tmp-*")))
    process.send_signal(signal.SIGUSR1)
    said = process.communicate(timeout=60)[0]
    assert process.returncode == 75, said
    log = next((place / "warned").glob(".batches/warned/jobs/fine/*/1/log.txt"))
    assert "stopped by SIGUSR1" in log.read_text()
    assert [path.name for path in (place / "warned").iterdir()] == [".batches"]
    stands = json.loads(cli("batch", "status", "warned", "-o", "warned", "--json", cwd=place).stdout)["jobs"][0]
    assert (stands["state"], stands["exit_code"]) == ("failed", 75)
    again = task(file, 0, SLURM_RESTART_COUNT="1")
    until(lambda: list((place / "warned").glob(".fine.tmp-*")))
    stands = json.loads(cli("batch", "status", "warned", "-o", "warned", "--json", cwd=place).stdout)["jobs"][0]
    assert stands["state"] == "running"
    again.send_signal(signal.SIGTERM)
    again.communicate(timeout=60)
    assert again.returncode == 143
    assert log.read_text().count("stopped by SIGUSR1") == 1
    assert "terminated" in log.read_text()


@pytest.fixture
def slurm():
    if shutil.which("sbatch") is None:
        pytest.skip("there is no sbatch here")
    if subprocess.run(["sinfo"], capture_output=True, check=False).returncode:
        pytest.skip("no Slurm answers here")


def test_a_batch_on_a_real_slurm(place, slurm, cli):
    arguments = ("batch", "recipes/*.yaml", "--on", "slurm", "-o", "slurm", "--no-waterfall", "--timeout", "10m")
    done = cli(*arguments, cwd=place)
    assert done.returncode == 2, done
    for name in ("fine", "missed"):
        assert store.verify(place / "slurm" / name) == []
    stands = json.loads(cli("batch", "status", "recipes", "-o", "slurm", "--json", cwd=place).stdout)["jobs"]
    assert {each["name"]: (each["state"], each["tries"]) for each in stands} == {
        "fine": ("done", 1), "missed": ("done", 1), "broken": ("failed", 1),
    }  # fmt: skip
    far = cli(*arguments, "--retry-failed", "--cpus", "100000", cwd=place)
    assert (far.returncode, "Slurm would not run such a job" in far.stderr) == (2, True), far
