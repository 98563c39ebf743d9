"""A search from end to end: real trials in processes of their own, one that dies, a kill, the front, the chosen one."""

import contextlib
import json
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import yaml

from compressit import report as reports
from compressit import store

RECIPE = """\
name: found
task: text-classification
model: {model}
dataset:
  path: {data}
  train: "train.jsonl[:400]"
  evaluation: "test.jsonl[:150]"
  columns: {{text: sentence}}
steps:
  - step: drop_layers
    keep: {{choose: [2, 9]}}                   # nine are more than there are: such a trial dies
  - step: prune_magnitude
    sparsity: {{search: [0.1, 0.4]}}
    optional: true
metrics: [accuracy, size]
targets: [{{metric: accuracy, max_drop: 0.2}}]
search: {{tuning: "train.jsonl[400:]", objective: [smallest, accuracy]}}
seed: 4
"""


@pytest.fixture(scope="module")
def searched(sentiment, tmp_path_factory):
    """A search that is killed in a trial and goes on when it is begun again."""
    folder = tmp_path_factory.mktemp("searched")
    (folder / "open.yaml").write_text(RECIPE.format(model=sentiment / "model", data=sentiment))
    environment = {**os.environ, "COMPRESSIT_CACHE": str(folder / "cache")}
    command = [sys.executable, "-m", "compressit", "search", folder / "open.yaml", "--trials", "3"]
    process = subprocess.Popen(
        command, cwd=folder, env=environment, stderr=subprocess.PIPE, text=True, start_new_session=True
    )
    killed = next(line for line in process.stderr if "trial 1 of" in line)
    while not len(list((folder / "runs/found.search/trials").glob("*/log.txt"))) > 1:
        time.sleep(0.05)
    os.killpg(process.pid, signal.SIGKILL)
    process.communicate()
    again = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, check=False)
    third = subprocess.run(
        [*command, "--json", "-q"], cwd=folder, env=environment, capture_output=True, text=True, check=False
    )
    return folder, killed, again, third


def test_a_search_that_was_killed_goes_on(searched):
    folder, killed, again, _ = searched
    assert again.returncode == 0, again.stdout + again.stderr
    assert "trial 1 of" not in again.stderr, "it was tried already"
    assert "trial 3 of 3" in again.stderr
    tried = reports.read(folder / "runs/found").search.trials
    assert len(tried) == 3
    told = dict(re.findall(r"trial (\d) of 3: (.*?): ", killed + again.stderr))
    assert told == {
        str(trial.number): ", ".join(f"{name}={value}" for name, value in trial.settings.items()) for trial in tried
    }, "they keep their numbers"


def test_a_trial_that_dies_is_a_trial_that_failed(searched):
    folder, _, again, _ = searched
    tried = reports.read(folder / "runs/found").search.trials
    dead = [trial for trial in tried if trial.settings["steps.0.keep"] == 9]
    assert dead
    assert all("9" in trial.why for trial in dead)
    assert all(not trial.why for trial in tried if trial not in dead)
    assert "died: " in again.stderr


def test_the_chosen_one_is_the_best_that_holds_and_alone_saw_the_evaluation_split(searched):
    folder, _, _, _ = searched
    found = reports.read(folder / "runs/found")
    tried = found.search.trials
    holding = [trial for trial in tried if not trial.missed and not trial.why]
    (chosen,) = [trial for trial in tried if trial.chosen]
    assert chosen.figures["size"] == min(trial.figures["size"] for trial in holding)
    beaten = [
        one for one in holding
        if any(
            other.figures["size"] <= one.figures["size"] and other.figures["accuracy"] >= one.figures["accuracy"]
            and (other.figures["size"], other.figures["accuracy"]) != (one.figures["size"], one.figures["accuracy"])
            for other in holding
        )
    ]  # fmt: skip
    assert not any(trial.front for trial in beaten)
    assert any(trial.front for trial in holding)
    assert found.provenance.data["examples"] == 150
    for file in (folder / "runs/found.search/trials").glob("*/report.json"):
        assert json.loads(file.read_text())["provenance"]["data"]["examples"] == 200
    assert store.verify(folder / "runs/found") == []


def test_it_is_an_ordinary_recipe(searched, cli):
    folder, _, _, _ = searched
    chosen = folder / "runs/found.search/chosen.yaml"
    tree = yaml.safe_load(chosen.read_text())
    assert "search" not in tree
    assert tree["dataset"]["evaluation"] == "test.jsonl[:150]"
    assert cli("validate", chosen).returncode == 0
    assert list(folder.glob("runs/found.search/front-*.yaml"))


def test_the_page_shows_what_was_tried(searched):
    folder, _, again, _ = searched
    for text in ((folder / "runs/found/report.html").read_text(), (folder / "runs/found/report.md").read_text()):
        assert "What the search tried" in text
        assert "steps.0.keep" in text
    assert "what the search tried: 3 trials by tpe" in again.stdout


def test_the_same_command_again_finds_all_done(searched):
    folder, _, _, third = searched
    assert third.returncode == 0, third.stderr
    assert json.loads(third.stdout) == json.loads((folder / "runs/found/report.json").read_text())
    assert third.stderr == ""


def test_another_search_in_the_same_folder_is_refused(searched, cli, monkeypatch):
    folder, _, _, _ = searched
    monkeypatch.chdir(folder)
    done = cli("search", "open.yaml", "--trials", "2", "--set", "steps.1.sparsity=0.2")
    assert done.returncode == 2
    assert "holds the trials of another search" in done.stderr
    assert "--fresh" in done.stderr


def trials_under(folder):
    """Find the processes of trials that run now."""
    for place in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            said = (place / "cmdline").read_text().split("\0")
            if "compressit.jobs.child" in said and any(str(folder) in word for word in said):
                yield place


def test_trials_at_the_same_time_have_a_gpu_each(sentiment, tmp_path):
    """Of a machine that says it has two; a trial sees its own alone."""
    (tmp_path / "open.yaml").write_text(RECIPE.format(model=sentiment / "model", data=sentiment))
    environment = {**os.environ, "COMPRESSIT_CACHE": str(tmp_path / "cache"), "CUDA_VISIBLE_DEVICES": "3,5"}
    command = [sys.executable, "-m", "compressit", "search", "open.yaml", "--trials", "4", "--jobs", "3"]
    with subprocess.Popen(command, cwd=tmp_path, env=environment, stderr=subprocess.PIPE, text=True) as process:
        warning = next(line for line in process.stderr if "warning: " in line)
        seen: dict[str, str] = {}
        while len(seen) < 2 and process.poll() is None:
            for place in trials_under(tmp_path):
                with contextlib.suppress(OSError):
                    about = (place / "environ").read_text().split("\0")
                    seen[place.name] = next(each for each in about if each.startswith("CUDA_VISIBLE_DEVICES="))
            time.sleep(0.05)
        process.terminate()
        process.communicate(timeout=60)
    assert "2 jobs at once, not 3: 2 GPUs, 1 for each job" in warning
    assert sorted(seen.values()) == ["CUDA_VISIBLE_DEVICES=3", "CUDA_VISIBLE_DEVICES=5"]


def test_auto_says_which_target_cannot_be_met_and_how_near_it_came(sentiment, tmp_path, cli, monkeypatch):
    text = RECIPE.format(model=sentiment / "model", data=sentiment)
    text = text.replace("{choose: [2, 9]}", "3").replace("{search: [0.1, 0.4]}\n    optional: true", "0.2")
    text = text.replace("max_drop: 0.2}", "max_drop: 0.2}, {metric: size, max_ratio: 0.01}")
    (tmp_path / "recipe.yaml").write_text(text)
    monkeypatch.chdir(tmp_path)
    done = cli("search", "--auto", "recipe.yaml", "--trials", "2")
    assert done.returncode == 3, done.stderr
    assert "no trial of 2 meets every target" in done.stdout
    assert "size max_ratio 0.01 (checkpoint): off by" in done.stdout
    assert "nothing was judged on the evaluation split" in done.stdout
    assert not (tmp_path / "runs/found").exists()


def test_auto_turns_a_recipe_that_says_nothing_of_searching(sentiment, tmp_path, cli, monkeypatch):
    text = RECIPE.format(model=sentiment / "model", data=sentiment).split("\nsearch:")[0]
    text = text.replace("{metric: accuracy, max_drop: 0.2}", "{metric: size, max_ratio: 0.9}")
    text = text.replace("{choose: [2, 9]}", "2").replace("{search: [0.1, 0.4]}\n    optional: true", "0.2")
    (tmp_path / "recipe.yaml").write_text(text)
    monkeypatch.chdir(tmp_path)
    done = cli("search", "--auto", "recipe.yaml")
    assert done.returncode == 0, done.stderr
    assert "names no tuning split: test.jsonl[75:150] judges the trials, test.jsonl[:75] what is chosen" in done.stderr
    found = reports.read(tmp_path / "runs/found")
    assert found.search.split == "test.jsonl[75:150]"
    assert found.provenance.data["examples"] == 75
    chosen = yaml.safe_load((tmp_path / "runs/found.search/chosen.yaml").read_text())
    assert chosen["dataset"]["evaluation"] == "test.jsonl[:75]"
    again = cli("search", "recipe.yaml")
    assert again.returncode == 2
    assert "the recipe doesn't say how to search" in again.stderr


def test_auto_takes_no_limits_that_it_would_not_keep(cli, write):
    for more in (("--jobs", "2"), ("--hours", "1")):
        done = cli("search", "--auto", write("name: r"), *more)
        assert done.returncode == 2
        assert "one trial after the other" in done.stderr


def test_auto_tries_again_what_was_killed_and_then_says_that_nothing_follows_from_it(sentiment, tmp_path):
    text = RECIPE.format(model=sentiment / "model", data=sentiment)
    text = text.replace("{choose: [2, 9]}", "3").replace("{search: [0.1, 0.4]}\n    optional: true", "0.2")
    (tmp_path / "recipe.yaml").write_text(text)
    environment = {**os.environ, "COMPRESSIT_CACHE": str(tmp_path / "cache")}
    command = [sys.executable, "-m", "compressit", "search", "--auto", "recipe.yaml"]
    killed: set[str] = set()
    with subprocess.Popen(command, cwd=tmp_path, env=environment, stderr=subprocess.PIPE, text=True) as process:
        while process.poll() is None:
            for place in trials_under(tmp_path):
                with contextlib.suppress(ProcessLookupError):
                    os.kill(int(place.name), signal.SIGKILL)
                killed.add(place.name)
            time.sleep(0.05)
        said = process.communicate()[1]
    assert process.returncode == 75, said
    assert len(killed) == 2
    assert "ended from outside, and tried once more: signal 9 ended it" in said
    assert "was ended from outside: signal 9 ended it" in said
    assert "the same command goes on from there" in said


@pytest.mark.parametrize("how", [["--trials", "2"], ["--trials", "2", "--auto", "--set", "steps.0.keep=2"]])
def test_a_trial_that_takes_too_long_has_failed_and_the_search_goes_on(sentiment, tmp_path, cli, monkeypatch, how):
    text = RECIPE.format(model=sentiment / "model", data=sentiment)
    if "--auto" in how:
        text = text.replace("{search: [0.1, 0.4]}\n    optional: true", "0.2")
    (tmp_path / "recipe.yaml").write_text(text)
    monkeypatch.chdir(tmp_path)
    done = cli("search", "recipe.yaml", *how, "--timeout", "0.01")
    assert done.returncode == 5, done.stderr
    assert "trial 2" in done.stderr
    assert done.stderr.count("died: its time was over after") == 2
    assert "every trial died" in done.stdout


def test_a_time_limit_is_spelled_as_a_batch_does(cli, write):
    done = cli("search", write("name: r"), "--timeout", "soon")
    assert done.returncode == 2
    assert "--timeout soon: expected seconds, or a number with s, m, h or d" in done.stderr


def test_what_is_left_open_inside_a_field_goes_by_its_path_in_trials_report_and_recipe(
    sentiment, tmp_path, cli, monkeypatch
):
    text = RECIPE.format(model=sentiment / "model", data=sentiment)
    steps = """steps:
  - step: quantize_rtn
    rules: [{layers: ["*query"], bits: {choose: [4, 8]}}]
"""
    text = text.split("steps:")[0] + steps + "metrics" + text.split("metrics", 1)[1]
    (tmp_path / "recipe.yaml").write_text(text)
    monkeypatch.chdir(tmp_path)
    done = cli("search", "recipe.yaml", "--trials", "1")
    assert done.returncode == 0, done.stderr
    (trial,) = reports.read(tmp_path / "runs/found").search.trials
    bits = trial.settings["steps.0.rules.0.bits"]
    assert f"trial 1 of 1: steps.0.rules.0.bits={bits}: " in done.stderr
    chosen = yaml.safe_load((tmp_path / "runs/found.search/chosen.yaml").read_text())
    assert chosen["steps"][0]["rules"] == [{"layers": ["*query"], "bits": bits}]
