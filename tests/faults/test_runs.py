"""Whole runs that are killed, starved, doubled or robbed of their input: the next goes on, to the same bytes."""

import functools
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import threading

import pytest

import compressit
from compressit import cache, plan, recipe, runner, steps, store
from compressit.errors import IntegrityError, RecipeError, StepError
from compressit.store import claims
from compressit.store.beating import beating

RECIPE = """\
name: faulty
task: text-classification
model: {model}
dataset: {{path: {data}, train: "train.jsonl[:64]", evaluation: "test.jsonl[:20]", columns: {{text: sentence}}}}
steps:
  - step: drop_layers
    keep: 2
  - step: finetune
    epochs: 2
    batch_size: 16
metrics: [accuracy, size]
"""

# Runs the command line and kills it where it is about to open a file, or rename something, by a name that matches.
KILLER = """
import os, re, signal, sys
pattern = sys.argv.pop(1)
def look(event, arguments):
    name = {"os.rename": arguments[1:2], "open": arguments[:1]}.get(event)
    if name and isinstance(name[0], (str, bytes, os.PathLike)) and re.search(pattern, os.fsdecode(name[0])):
        os.kill(os.getpid(), signal.SIGKILL)
sys.addaudithook(look)
from compressit.cli import main
main()
"""


@pytest.fixture
def file(sentiment, tmp_path):
    file = tmp_path / "faulty.yaml"
    file.write_text(RECIPE.format(model=sentiment / "model", data=sentiment))
    return file


@pytest.fixture(scope="module")
def undisturbed(sentiment, tmp_path_factory):
    """What comes of the recipe when nothing goes wrong."""
    place = tmp_path_factory.mktemp("undisturbed")
    (place / "r.yaml").write_text(RECIPE.format(model=sentiment / "model", data=sentiment))
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("COMPRESSIT_CACHE", str(place / "cache"))
        compressit.apply(place / "r.yaml", place / "out")
    return weights(place / "out")


def weights(folder):
    return (folder / "checkpoint" / "model.safetensors").read_bytes()


@pytest.fixture
def here(tmp_path, monkeypatch):
    monkeypatch.setenv("COMPRESSIT_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


@pytest.mark.parametrize(
    ("place", "kept"),
    [
        (r"/steps/[0-9a-f]{64}$", 0),  # the first step is done, and its checkpoint not yet kept
        (r"/checkpoint-8/trainer_state.json$", 1),  # in the second step, while its training is saved
        (r"/out$", 2),  # all is written, the manifest, too, and the result has no name yet
    ],
    ids=["before a step is kept", "in a training", "before the result has its name"],
)
def test_killed_and_run_again(place, kept, file, here, tmp_path, undisturbed):
    apply = ["apply", file, "-o", tmp_path / "out", "--no-waterfall"]
    killed = subprocess.run([sys.executable, "-c", KILLER, place, *apply], capture_output=True, text=True, check=False)
    assert killed.returncode == -signal.SIGKILL, killed.stderr
    assert not (tmp_path / "out").exists()
    assert len(cache.entries()) == kept
    again = subprocess.run(
        [sys.executable, "-m", "compressit", *apply], capture_output=True, text=True, check=False, timeout=300
    )
    assert again.returncode == 0, again.stderr
    assert again.stderr.count("kept from before") == kept
    assert weights(tmp_path / "out") == undisturbed
    assert store.verify(tmp_path / "out") == []
    hidden = [path for path in tmp_path.rglob("*") if path.name.startswith(".") or path.parent.name == "unfinished"]
    assert hidden == [], "nothing is left of the killed one"


def test_a_scheduler_that_warns_gets_75_and_a_way_on(file, here, tmp_path):
    listen = functools.partial(signal.signal, signal.SIGINT, signal.default_int_handler)
    command = [sys.executable, "-m", "compressit", "apply", file, "-o", tmp_path / "out"]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True, preexec_fn=listen) as run:
        for line in run.stderr:
            if "step 2" in line:
                break
        run.send_signal(signal.SIGUSR1)
        said = run.communicate(timeout=60)[1]
    assert run.returncode == 75, said
    assert "stopped by SIGUSR1" in said
    assert "Run the same command again to go on" in said
    assert not (tmp_path / "out").exists()


def test_the_same_recipe_twice_at_once_does_each_step_once(file, here, tmp_path, undisturbed):
    command = [sys.executable, "-m", "compressit", "apply", file, "--no-waterfall", "-o"]
    runs = [subprocess.Popen([*command, tmp_path / name], stderr=subprocess.PIPE, text=True) for name in ("a", "b")]
    said = [run.communicate(timeout=300)[1] for run in runs]
    assert [run.returncode for run in runs] == [0, 0], said
    assert weights(tmp_path / "a") == weights(tmp_path / "b") == undisturbed
    assert len(cache.entries()) == 2
    assert [*(here / "unfinished").iterdir()] == []


def test_one_step_is_waited_for_while_another_process_is_at_it(here):
    code = (
        "import sys, time\nfrom compressit import store\n"
        "with store.unfinished('ab' * 32):\n    print('has it', flush=True)\n    time.sleep(1.5)\n"
    )
    said = []
    with subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True) as other:
        assert other.stdout.readline() == "has it\n"
        store.wait("ab" * 32, said.append)
        assert other.wait(timeout=10) == 0
    assert re.fullmatch(rf"process {other.pid} on .* is at the very same work; waiting for what it makes", said[0])
    store.wait("ab" * 32, said.append)
    assert len(said) == 1


def test_of_another_host_is_waited_for_as_long_as_it_gives_signs_of_life(here, monkeypatch):
    monkeypatch.setattr(claims, "PAUSE", 0.05)
    monkeypatch.setattr(claims, "PATIENCE", 0.5)
    key, said = "ef" * 32, []
    far = here / "unfinished" / f"{key}.far-away-17-4"
    far.mkdir(parents=True)
    (far / "half").write_text("half")
    with beating(0.1, functools.partial(os.utime, far), OSError):
        thread = threading.Thread(target=store.wait, args=(key, said.append))
        thread.start()
        thread.join(1.5)
        assert thread.is_alive(), "it still works"
    thread.join(10)
    assert not thread.is_alive()
    assert [line.partition(" is ")[0] for line in said] == ["process 17 on far-away"] * 2
    assert "silent" in said[1]
    with store.unfinished(key) as own:
        assert (own / "half").read_text() == "half"


def test_where_nobody_sees_another_both_work_and_both_are_right(here, tmp_path, monkeypatch):
    """On file systems on which a rename shows too late."""
    with store.unfinished("cd" * 32) as first:
        with store.unfinished("cd" * 32) as second:
            assert first != second
            (second / "x").write_text("two")
        (first / "x").write_text("one")
        assert not second.exists()
    assert [*(here / "unfinished").iterdir()] == []


def test_a_step_that_fails_late_leaves_nothing(file, here, tmp_path, monkeypatch):
    finetune = steps.load("finetune")

    def fail(model, config, context):
        next(model.module.parameters()).data.zero_()
        (context.scratch / "half").write_text("half")
        raise OSError(24, "Too many open files")

    with monkeypatch.context() as patch:
        patch.setattr(finetune, "run", fail)
        with pytest.raises(StepError, match="Too many open files"):
            compressit.apply(file, tmp_path / "out")
    assert [entry.made["step"] for entry in cache.entries()] == ["drop_layers"]
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("error", [MemoryError("no room"), RuntimeError("DefaultCPUAllocator: can't allocate memory")])
def test_a_step_without_memory_is_named_with_a_remedy(error, file, here, tmp_path, monkeypatch):
    def fail(model, config, context):
        raise error

    monkeypatch.setattr(steps.load("finetune"), "run", fail)
    with pytest.raises(StepError, match=r"step 2 \(finetune\) ran out of memory on cpu, .*B at the peak") as told:
        compressit.apply(file, tmp_path / "out")
    assert "smaller batch_size" in told.value.hint


def test_a_report_that_cannot_be_written_costs_no_step(file, here, tmp_path, monkeypatch, undisturbed):
    from compressit.report import files

    def fail(*arguments):
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(files, "write", fail)
        with pytest.raises(StepError, match="No space left"):
            compressit.apply(file, tmp_path / "out")
    assert not (tmp_path / "out").exists()
    monkeypatch.setattr(steps.load("finetune"), "run", None)
    compressit.apply(file, tmp_path / "out")
    assert weights(tmp_path / "out") == undisturbed


def test_a_checkpoint_that_is_let_go_while_it_is_read_is_made_again(file, here, tmp_path, monkeypatch, undisturbed):
    compressit.apply(file, tmp_path / "first")
    check = store.check

    def checked(folder, names=None):
        check(folder, names)
        if here in folder.parents:
            shutil.rmtree(folder)

    monkeypatch.setattr(store, "check", checked)
    compressit.apply(file, tmp_path / "second")
    assert weights(tmp_path / "second") == undisturbed


def test_a_step_that_makes_nan_publishes_nothing(file, here, tmp_path, monkeypatch):
    def fail(model, config, context):
        next(model.module.parameters()).data[0, 0] = float("nan")
        return {}

    monkeypatch.setattr(steps.load("finetune"), "run", fail)
    with pytest.raises(IntegrityError, match=r"holds NaN or infinity, in .*word_embeddings"):
        compressit.apply(file, tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_a_model_with_nan_is_refused_before_any_work(file, sentiment, here, tmp_path):
    from safetensors.torch import load_file, save_file

    shutil.copytree(sentiment / "model", tmp_path / "model")
    tensors = load_file(tmp_path / "model" / "model.safetensors")
    tensors["classifier.bias"][0] = float("inf")
    save_file(tensors, tmp_path / "model" / "model.safetensors", {"format": "pt"})
    with pytest.raises(IntegrityError, match=r"holds NaN or infinity, in classifier\.bias"):
        compressit.apply(file, tmp_path / "out", overrides=(f"model={tmp_path / 'model'}",))


def test_a_model_that_changes_during_the_run_is_noticed(file, sentiment, here, tmp_path, monkeypatch):
    shutil.copytree(sentiment / "model", tmp_path / "model")
    run = steps.load("finetune").run

    def meddle(model, config, context):
        text = (tmp_path / "model" / "config.json").read_text()
        (tmp_path / "model" / "config.json").write_text(text + "\n")
        return run(model, config, context)

    monkeypatch.setattr(steps.load("finetune"), "run", meddle)
    with pytest.raises(IntegrityError, match="was changed while it was compressed: nothing is published"):
        compressit.apply(file, tmp_path / "out", overrides=(f"model={tmp_path / 'model'}",))
    assert not (tmp_path / "out").exists()


def test_a_model_that_changes_before_it_is_opened_leaves_nothing_in_the_cache(file, sentiment, tmp_path, monkeypatch):
    shutil.copytree(sentiment / "model", tmp_path / "model")
    monkeypatch.setenv("COMPRESSIT_CACHE", str(tmp_path / "cache"))
    # This comes right after its files were read for their SHA-256.
    monkeypatch.setattr("compressit.runner.room.check", lambda *_: (tmp_path / "model" / "config.json").touch())
    with pytest.raises(IntegrityError, match="was changed while it was compressed"):
        compressit.apply(file, tmp_path / "out", overrides=(f"model={tmp_path / 'model'}", "exports=[{export: onnx}]"))
    assert cache.entries() == []


def test_a_result_does_not_replace_what_it_is_made_of(file, here, tmp_path):
    compressit.apply(file, tmp_path / "out")
    own = (f"model={tmp_path / 'out' / 'checkpoint'}", "steps.0.keep=1")
    with pytest.raises(RecipeError, match=r"lies in .*out, where the result goes"):
        runner.run(plan.plan(recipe.load(file, own)), tmp_path / "out", overwrite=True)
    assert store.verify(tmp_path / "out") == []


def test_a_disk_without_room_is_told_before_any_work(file, here, tmp_path, monkeypatch):
    usage = shutil.disk_usage(tmp_path)
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage._replace(free=10_000))
    with pytest.raises(StepError, match=r"needs about .* on the disk of .*, and 10 kB is free") as told:
        compressit.apply(file, tmp_path / "out")
    assert "compressit cache gc" in told.value.hint
    assert cache.entries() == []


SMALL = """
mount -t tmpfs -o size={size} none {place} || exit 77
{python} -m compressit apply {file} -o {out} --no-waterfall
echo $?
ls -A {place} {out} 2>/dev/null
"""


@pytest.mark.parametrize("full", ["the result's disk", "the cache's disk"])
def test_a_disk_that_fills_up(full, file, here, tmp_path, monkeypatch):
    """A real one, of 60 kB: that is less than a checkpoint, and the estimate is told that there is room."""
    place = tmp_path / "small"
    place.mkdir()
    cached, out = (place, tmp_path / "out") if full == "the cache's disk" else (tmp_path / "cache", place / "out")
    blind = tmp_path / "sitecustomize.py"
    blind.write_text("import shutil\nu = shutil.disk_usage\nshutil.disk_usage = lambda p: u(p)._replace(free=10**12)\n")
    script = SMALL.format(size="60k", place=place, python=sys.executable, file=file, out=out)
    environment = {**os.environ, "COMPRESSIT_CACHE": str(cached), "PYTHONPATH": f"{tmp_path}:{os.getcwd()}"}
    done = subprocess.run(
        ["unshare", "-Urm", "sh", "-c", script], capture_output=True, text=True, env=environment, check=False
    )
    if done.returncode == 77 or "unshare" in done.stderr:
        pytest.skip("no mounts allowed here")
    code, *left = done.stdout.split("\n")
    assert code == "5", done.stdout + done.stderr
    assert "No space left on device" in done.stderr
    assert "bytes free" in done.stderr
    assert "Traceback" not in done.stderr
    assert not any(".tmp-" in name or name == "out" for name in left), left


def test_the_plan_says_what_is_kept_as_json(file, here, tmp_path, cli):
    said = json.loads(cli("plan", file, "--json").stdout)
    assert [step["kept"] for step in said["steps"]] == [False, False]
    assert said["disk_bytes"] > 0
