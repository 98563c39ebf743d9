"""A batch on a real Ray cluster of three nodes on this machine: one is killed, and so is the batch."""

import json
import os
import signal
import subprocess
import sys
from importlib.util import find_spec

import pytest

from compressit import store

CLUSTER = """\
import json, os, psutil, socket, sys
from ray.cluster_utils import Cluster
with socket.socket() as free:
    free.bind(("127.0.0.1", 0))
    port = free.getsockname()[1]
head = {"num_cpus": 1, "include_dashboard": True, "dashboard_port": port}
cluster = Cluster(initialize_head=True, head_node_args=head)
nodes = [cluster.add_node(num_cpus=1) for _ in range(2)]
print(json.dumps({"address": f"http://{cluster.webui_url}"}), flush=True)
for line in sys.stdin:
    # All of it at once, as a machine goes: its jobs, too.
    raylet = psutil.Process(nodes.pop().all_processes["raylet"][0].process.pid)
    for process in [raylet, *raylet.children(recursive=True)]:
        process.kill()
    print(json.dumps({"nodes": len(nodes) + 1}), flush=True)
cluster.shutdown()
"""


class Cluster:
    def __init__(self, process):
        self._process = process
        self.address = self._said()["address"]

    def kill_a_node(self):
        self._process.stdin.write("kill\n")
        self._process.stdin.flush()
        return self._said()["nodes"]

    def _said(self):
        for line in self._process.stdout:
            if line.startswith("{"):
                return json.loads(line)
        pytest.skip(f"no Ray cluster starts here: {self._process.stderr.read()[-500:]}")


@pytest.fixture(scope="module")
def cluster(place):
    if find_spec("ray") is None:
        pytest.skip("Ray is not installed")
    # Nothing of the tests' own threads or devices is for the nodes; nobody is told that Ray is used.
    env = {**os.environ, "RAY_USAGE_STATS_ENABLED": "0", "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0"}
    with subprocess.Popen(
        [sys.executable, "-c", CLUSTER],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=env,
        start_new_session=True,
    ) as process:
        try:
            yield Cluster(process)
        finally:
            process.stdin.close()
            try:
                process.wait(60)
            finally:
                if process.poll() is None:
                    os.killpg(process.pid, signal.SIGKILL)


def standing(cli, place):
    done = cli("batch", "status", "spread", "--json", cwd=place)
    return {each["name"]: each for each in json.loads(done.stdout)["jobs"]}


def test_a_node_and_the_batch_are_lost_and_every_job_is_done_once(place, cluster, started, until, cli):
    arguments = ("batch", "recipes/fine.yaml", "--matrix", "seed=0,1,2,3", "--name", "spread", "--no-waterfall")
    arguments += ("--on", f"ray+{cluster.address}")
    far = cli(*arguments, "--cpus", "64", cwd=place)
    assert (far.returncode, "no node of the Ray cluster has 64 cores" in far.stderr) == (2, True), far
    driver = started(*arguments, cwd=place)
    jobs = place / "runs" / ".batches" / "spread" / "jobs"
    until(lambda: len(list(jobs.glob("*/*/1/begun.0.json"))) == 3)
    driver.send_signal(signal.SIGKILL)
    said = driver.communicate()[0]
    assert "asks nobody who they are" in said
    assert cluster.kill_a_node() == 2
    again = cli(*arguments, cwd=place)
    assert again.returncode == 0, again
    stands = standing(cli, place)
    assert {each["state"] for each in stands.values()} == {"done"}
    assert sorted(each["tries"] for each in stands.values()) == [1, 1, 1, 2], again.stderr
    assert "trying again" in again.stderr
    for name in stands:
        assert store.verify(place / "runs" / name) == []
        logs = "".join(file.read_text() for file in jobs.glob(f"{name}/*/*/log.txt"))
        assert logs.count("saved in") == 1


def test_a_job_is_cancelled_and_a_cluster_out_of_reach_is_told(place, cluster, started, until, cli):
    slow = "steps=[{step: drop_layers, keep: 2}, {step: finetune, epochs: 10000}]"
    driver = started("batch", "recipes/fine.yaml", "--name", "long", "--set", slow, "-o", "long", "--on",
                     f"ray+{cluster.address}", cwd=place)  # fmt: skip
    until(lambda: list((place / "long").glob(".fine.tmp-*")))
    told = cli("batch", "cancel", "long", "-o", "long", cwd=place)
    assert told.returncode == 0, told
    said = driver.communicate(timeout=120)[0]
    assert driver.returncode == 130, said
    until(lambda: not list((place / "long").glob(".fine*")))
    nowhere = cli("batch", "recipes/fine.yaml", "-o", "nowhere", "--on", "ray+http://127.0.0.1:1", cwd=place)
    assert (nowhere.returncode, "no Ray cluster at http://127.0.0.1:1" in nowhere.stderr) == (75, True), nowhere
    client = cli("batch", "recipes/fine.yaml", "-o", "nowhere", "--on", "ray+ray://127.0.0.1:10001", cwd=place)
    assert (client.returncode, "name the dashboard" in client.stderr) == (2, True), client
