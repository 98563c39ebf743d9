"""A run that trackers follow: they are given the curves and the report, and their outage changes nothing."""

import contextlib
import json
import re
import socket
import sys
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from compressit import plan, recipe, report, runner, trackers, tracking
from compressit.errors import MissingExtra
from compressit.progress import Silent
from compressit.tracking import content

RECIPE = """\
name: followed
task: text-classification
model: {model}
dataset:
  path: {data}
  train: train.jsonl[:64]
  evaluation: test.jsonl[:60]
  columns: {{text: sentence}}
steps:
  - {{step: finetune, epochs: 1, learning_rate: 1e-4}}
  - {{step: drop_layers, keep: 2}}
  - {{step: finetune, epochs: 2}}
metrics: [accuracy, size]
targets:
  - {{metric: size, max_ratio: 0.5}}
"""
SECRET = "hf_canary0123456789"


@pytest.fixture(scope="module")
def file(sentiment, tmp_path_factory):
    place = tmp_path_factory.mktemp("followed")
    (place / SECRET).symlink_to(sentiment)
    (place / "recipe.yaml").write_text(RECIPE.format(model=sentiment / "model", data=f"./{SECRET}"))
    return place / "recipe.yaml"


def command(file, out, *trackers):
    return ["apply", file, "-o", out, "--no-waterfall", *(part for name in trackers for part in ("--track", name))]


class Heard(Silent):
    """What a user is told."""

    def __init__(self):
        self.lines = []

    def say(self, text):
        self.lines.append(text)


@pytest.fixture(scope="module")
def followed(file):
    """A run that TensorBoard and a local store of MLflow followed: its folder, and what was said."""
    out, heard = file.parent / "runs" / "out", Heard()
    written = recipe.load(file)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("HF_TOKEN", SECRET)
        patch.setenv("MLFLOW_ALLOW_FILE_STORE", "true")
        patch.setenv("MLFLOW_TRACKING_URI", (file.parent / "mlruns").as_uri())
        with tracking.follow(["tensorboard", "mlflow"], written.recipe, out, heard) as followed:
            followed.report(runner.run(plan.plan(written), out, waterfall=False, progress=followed))
    return out, "\n".join(heard.lines)


@pytest.fixture
def finished(followed):
    out, _ = followed
    return recipe.load(out / "recipe.yaml").recipe, report.read(out), out


def curve(points):
    return {point.step: point.value for point in points}


def test_tensorboard_has_curves_figures_and_the_report(followed, finished):
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
    from tensorboard.plugins.hparams.metadata import parse_session_end_info_plugin_data as ended

    out, said = followed
    _, made, _ = finished
    assert made.exit_code == 3, "a missed target is the run's own end, not a failure of it"
    assert "not followed" not in said
    (place,) = (out.parent / "tensorboard").iterdir()
    assert f"followed by tensorboard: {place}" in said
    read = EventAccumulator(str(place)).Reload()
    assert [point.step for point in read.Scalars("1 finetune/loss")] == [1, 2]
    assert [point.step for point in read.Scalars("3 finetune/loss")] == [1, 2, 3, 4]
    assert 0 < read.Scalars("3 finetune/learning_rate")[-1].value < 5e-5
    accuracy = {reading.metric: reading for reading in made.artifacts[0].readings}["accuracy"]
    assert read.Scalars("checkpoint/accuracy")[0].value == pytest.approx(accuracy.value)
    stages = [point.step for point in read.Scalars("after step/accuracy")]
    assert stages == [0, 3], "nothing was measured in between"
    said = read.Tensors("facts")[0].tensor_proto.string_val[0].decode()
    assert "FAIL: size <= 0.5x (checkpoint)" in said
    text = read.Tensors("report")[0].tensor_proto.string_val[0].decode()
    assert text == (out / "report.md").read_text().replace(SECRET, "***")
    assert (place / "report.html").read_text() == (out / "report.html").read_text().replace(SECRET, "***")
    end = read.SummaryMetadata("_hparams_/session_end_info").plugin_data.content
    assert ended(end).status == 1, "success"


def test_mlflow_has_them_too(followed, finished, monkeypatch):
    monkeypatch.setenv("MLFLOW_ALLOW_FILE_STORE", "true")
    from mlflow import MlflowClient

    out, said = followed
    _, made, _ = finished
    client = MlflowClient((out.parents[1] / "mlruns").as_uri())
    (experiment,) = [each for each in client.search_experiments() if each.name == "compressit"]
    (run,) = client.search_runs([experiment.experiment_id])
    assert f"(run {run.info.run_id})" in said
    assert (run.info.run_name, run.info.status) == ("followed", "FINISHED")
    assert run.data.params["steps.1.keep"] == "2"
    assert run.data.tags["recipe_sha256"] == made.provenance.recipe_sha256
    assert run.data.tags["target 1"].startswith("FAIL: size")
    assert not {"mlflow.user", "mlflow.source.name", "mlflow.source.git.commit"} & run.data.tags.keys()
    loss = client.get_metric_history(run.info.run_id, "3 finetune/loss")
    assert [point.step for point in loss] == [1, 2, 3, 4]
    size = {reading.metric: reading for reading in made.artifacts[0].readings}["size"]
    assert run.data.metrics["checkpoint/size"] == size.value
    assert run.data.metrics["checkpoint/size_ratio"] == pytest.approx(size.ratio)
    kept = {each.path for each in client.list_artifacts(run.info.run_id)}
    assert kept == {"report.html", "report.md"}


def test_no_tracker_is_told_a_secret(followed):
    out, said = followed
    assert SECRET in (out / "report.html").read_text(), "the recipe itself holds it, and what stays here may"
    kept = [*(out.parent / "tensorboard").rglob("*"), *(out.parents[1] / "mlruns").rglob("*")]
    told = [each.read_bytes() for each in kept if each.is_file()]
    assert any(b"./***" in each for each in told)
    assert not [each for each in told if SECRET.encode() in each]
    assert SECRET not in said.partition("followed by")[2]
    told = {"a": ["https://me:pass@host/x", f"is {SECRET}", 1.5], SECRET: None}
    known = {"HF_TOKEN": SECRET, "HOME": "a", "API_KEY": "short"}
    assert content.without_secrets(told, known) == {"a": ["https://***@host/x", "is ***", 1.5], "***": None}


class Broken(BaseHTTPRequestHandler):
    """A server that is out of order."""

    def do_GET(self):
        self.rfile.read(int(self.headers.get("Content-Length", 0)))
        self.server.asked.append(self.path)
        self.send_error(500)

    do_POST = do_PATCH = do_PUT = do_GET

    def log_message(self, *unused):
        pass


@pytest.fixture
def broken():
    with ThreadingHTTPServer(("127.0.0.1", 0), Broken) as server:
        server.asked = []
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield server
        server.shutdown()


def test_an_outage_is_a_warning_and_changes_nothing(followed, file, broken, cli, tmp_path):
    before, _ = followed
    (tmp_path / "taken").write_text("a file, where a folder should be")
    done = cli(
        *command(file, tmp_path / "out", "mlflow", "tensorboard"),
        env={
            "MLFLOW_TRACKING_URI": f"http://me:opensesame@127.0.0.1:{broken.server_port}",
            "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "0",
            "TENSORBOARD_LOGGING_DIR": str(tmp_path / "taken"),
        },
    )
    assert broken.asked, "it was tried"
    assert done.returncode == 3
    assert done.stderr.count("not followed by mlflow any more: ") == 1
    assert done.stderr.count("not followed by tensorboard any more: NotADirectoryError") == 1
    assert done.stderr.count("not followed by") == 2
    assert "opensesame" not in done.stderr + done.stdout

    def figures(folder):
        found = json.loads((folder / "report.json").read_text())
        return [
            found["verdicts"],
            found["provenance"]["recipe_sha256"],
            [[step["notes"], step["parameters"]] for step in found["steps"]],
            [artifact["readings"] for artifact in found["artifacts"]],
        ]

    assert figures(tmp_path / "out") == figures(before)
    name = "checkpoint/model.safetensors"
    assert (tmp_path / "out" / name).read_bytes() == (before / name).read_bytes()
    assert {path.name for path in (tmp_path / "out").iterdir()} == {path.name for path in before.iterdir()}


@pytest.mark.parametrize("kind", ["refuses", "hangs"])
def test_a_service_that_never_answers_holds_nothing_up(kind, finished, monkeypatch):
    with socket.socket() as silent:
        silent.bind(("127.0.0.1", 0))
        if kind == "hangs":
            silent.listen()
        monkeypatch.setenv("MLFLOW_TRACKING_URI", f"http://127.0.0.1:{silent.getsockname()[1]}")
        monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0" if kind == "refuses" else "5")
        run, made, out = finished
        heard = Heard()
        with tracking.follow(["mlflow"], run, out, heard, patience=30 if kind == "refuses" else 2) as followed:
            for at in range(20_000):  # more than a pipe holds
                followed.curve("finetune", at, {"loss": 1.0})
            followed.report(made)
        (told,) = heard.lines
        assert ("no answer within 2 s" if kind == "hangs" else "refused") in told
        assert f"`compressit report {out} --track mlflow`" in told


def test_a_run_that_breaks_off_is_marked_as_failed(finished, tmp_path, monkeypatch):
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
    from tensorboard.plugins.hparams.metadata import parse_session_end_info_plugin_data as ended

    monkeypatch.setenv("TENSORBOARD_LOGGING_DIR", str(tmp_path))
    run, _, out = finished
    with contextlib.suppress(KeyError), tracking.follow(["tensorboard"], run, out, Silent()) as followed:
        followed.curve("finetune", 1, {"loss": 0.5, "grad_norm": float("nan")})
        raise KeyError("the run's own error passes")
    read = EventAccumulator(str(next(tmp_path.iterdir()))).Reload()
    assert curve(read.Scalars("finetune/loss")) == {1: 0.5}
    assert "finetune/grad_norm" not in read.Tags()["scalars"]
    assert ended(read.SummaryMetadata("_hparams_/session_end_info").plugin_data.content).status == 2, "failure"


def test_a_finished_runs_report_is_sent_later(finished, cli, tmp_path):
    _, _, out = finished
    before = {path: path.stat().st_mtime_ns for path in out.rglob("*")}
    done = cli("report", out, "--track", "tensorboard", env={"TENSORBOARD_LOGGING_DIR": str(tmp_path / "logs")})
    assert done.returncode == 0, done.stderr
    assert (next((tmp_path / "logs").iterdir()) / "report.html").read_text() == (out / "report.html").read_text()
    assert {path: path.stat().st_mtime_ns for path in out.rglob("*")} == before, "the folder is left alone"
    done = cli("report", out, "--track", "tensorboard", env={"TENSORBOARD_LOGGING_DIR": str(out / "report.md")})
    assert done.returncode == 75, "to send was all that was asked for"
    assert "error: not sent to tensorboard" in done.stderr


def test_what_is_not_there_is_said_before_any_work(file, cli, tmp_path, monkeypatch):
    done = cli(*command(file, tmp_path / "out", "tensorbord"))
    assert done.returncode == 2
    assert "unknown tracker 'tensorbord'; did you mean 'tensorboard'?" in done.stderr
    (tmp_path / "wandb").mkdir()
    monkeypatch.setattr(sys, "path", [str(tmp_path)])
    for name in trackers.names():
        monkeypatch.delitem(sys.modules, name, raising=False)
        with pytest.raises(MissingExtra, match=rf"not installed\n  hint: pip install 'compressit\[{name}\]'"):
            tracking.check(name)


def test_trackers_are_listed(cli):
    done = cli("trackers", "list")
    assert re.findall(r"^ ?(\w+)  ", done.stdout, re.M) == trackers.names()
    assert "TENSORBOARD_LOGGING_DIR" in cli("trackers", "show", "tensorboard").stdout
