"""Several processes, as a launcher starts them: one result, one voice, one exit code, and the same training."""

import os
import re
import resource
import signal
import socket
import subprocess
import sys
import time

import pytest
from safetensors.torch import load_file

import compressit
from compressit import ranks, report
from compressit.errors import RecipeError

RECIPE = """\
name: together
task: text-classification
model: {model}
dataset:
  path: {data}
  train: train.jsonl[:32]
  evaluation: test.jsonl[:40]
  columns: {{text: sentence}}
  max_length: 6          # texts of one length: a mean over tokens is that of two halves, too
steps:
  - {{step: drop_layers, keep: 3}}
  - {{step: prune_magnitude, sparsity: 0.5}}
  - {{step: distill, epochs: 40, batch_size: {batch_size}, learning_rate: 2e-4, hidden: 1.0, logits: 0.5}}
  - {{step: finetune, epochs: 2, batch_size: {batch_size}, learning_rate: 2e-4, lora: {{rank: 4}}}}
metrics: [accuracy]
targets: [{{metric: accuracy, min: 0.999}}]
"""


@pytest.fixture(scope="module")
def still(sentiment, tmp_path_factory):
    """A model without dropout, whose training depends on nothing but the batches."""
    from transformers import AutoModelForSequenceClassification, AutoTokenizer

    folder = tmp_path_factory.mktemp("still")
    none = {"hidden_dropout_prob": 0.0, "attention_probs_dropout_prob": 0.0}
    AutoModelForSequenceClassification.from_pretrained(sentiment / "model", **none).save_pretrained(folder)
    AutoTokenizer.from_pretrained(sentiment / "model").save_pretrained(folder)
    return folder


def recipe(folder, name, sentiment, model, batch_size, text=RECIPE):
    file = folder / f"{name}.yaml"
    file.write_text(text.format(model=model, data=sentiment, batch_size=batch_size))
    return file


TORCHRUN = ("torch.distributed.run", "--standalone", "--nproc-per-node", "2")
ACCELERATE = ("accelerate.commands.accelerate_cli", "launch", "--multi_gpu", "--num_processes", "2",
              "--num_machines", "1", "--mixed_precision", "no", "--dynamo_backend", "no")  # fmt: skip
"""Without a GPU, too, it is this flag by which accelerate starts more than one process."""
SHARDED = (*(flag for flag in ACCELERATE if flag != "--multi_gpu"), "--use_fsdp", "--fsdp_version", "2",
           "--fsdp_auto_wrap_policy", "TRANSFORMER_BASED_WRAP")  # fmt: skip


def launched(file, output, cache, launcher=TORCHRUN):
    """Start two processes with torchrun or another launcher."""
    return subprocess.Popen(
        [sys.executable, "-m", *launcher, "-m", "compressit", "apply", str(file), "-o", str(output), "--no-waterfall"],
        env={**os.environ, "COMPRESSIT_CACHE": str(cache), "OMP_NUM_THREADS": "1"},
        stderr=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )


def by_hand(file, output, cache, small=None, **more):
    """Start two processes without a launcher; one may be given a limit on what it writes to a file."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    started = []
    for rank in range(2):
        own = {"RANK": rank, "LOCAL_RANK": rank, "WORLD_SIZE": 2, "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port}
        limit = (lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (1000, 1000))) if rank == small else None
        started.append(
            subprocess.Popen(
                [sys.executable, "-m", "compressit", "apply", str(file), "-o", str(output), "--no-waterfall"],
                env={**os.environ, "COMPRESSIT_CACHE": str(cache), **{k: str(v) for k, v in own.items()}, **more},
                stderr=subprocess.PIPE,
                stdout=subprocess.PIPE,
                text=True,
                preexec_fn=limit,
            )
        )
    said = [process.communicate(timeout=200) for process in started]
    return [process.returncode for process in started], said


def interrupt(file, output, cache, launcher=TORCHRUN):
    """Start two processes, and have the launcher end them in the midst of a training."""
    with launched(file, output, cache, launcher) as stopped:
        for _ in range(2000):
            if [*cache.glob("unfinished/*/checkpoint-*/trainer_state.json")]:
                break
            time.sleep(0.05)
        stopped.send_signal(signal.SIGTERM)
        said = stopped.communicate(timeout=100)[1]
    assert said.count("terminated; nothing was published") == 1, said
    assert not output.exists()


def agree(one, two, before):
    """Hold trained weights to those of another run's, zeros among them, and to having moved."""
    one, two, before = (load_file(folder / "model.safetensors") for folder in (one, two, before))
    for name, value in one.items():
        # A key's bias shifts all scores alike: nothing but rounding moves it.
        if not name.endswith("key.bias"):
            apart = (value - two[name]).abs().max()
            assert apart < 1e-4, (name, apart)
    assert (one["classifier.weight"] - before["classifier.weight"]).abs().max() > 1e-3
    for name, value in two.items():
        if name.endswith("dense.weight") and ".layer." in name:
            assert bool(((value == 0) == (one[name] == 0)).all()), name
            assert 0.4 < float((value == 0).float().mean()) < 0.6


def test_two_processes_train_as_one_with_their_batches_together(sentiment, still, tmp_path):
    """Interrupted in between, too, and taken up again, by another launcher."""
    cache, two = tmp_path / "cache", recipe(tmp_path, "two", sentiment, still, 16)
    interrupt(two, tmp_path / "two", cache)
    assert [*cache.glob("unfinished/*/checkpoint-*/rng_state_1.pth")]
    with launched(two, tmp_path / "two", cache, ACCELERATE) as process:
        out, said = process.communicate(timeout=200)
    found = report.read(tmp_path / "two")
    assert found.exit_code == 3
    assert {*re.findall(r"exitcode *: (\d+)", said)} == {"3"}
    assert {*re.findall(r"rank *: (\d+)", said)} == {"0", "1"}
    assert out.count("saved in") == 1
    assert said.count("save the checkpoint") == 1
    assert "finetune: 2 of 2" in said
    assert sorted(path.name for path in tmp_path.iterdir()) == ["cache", "two", "two.yaml"]
    assert not [*cache.glob("unfinished/*")]

    one = compressit.apply(recipe(tmp_path, "one", sentiment, still, 32), tmp_path / "one", waterfall=False)
    resumed = found.steps[2].notes
    assert resumed["resumed"] is True
    assert resumed["processes"] == 2
    assert [step.notes.get("updates") for step in found.steps] == [step.notes.get("updates") for step in one.steps]
    assert "processes" not in one.steps[2].notes
    agree(tmp_path / "one" / "checkpoint", tmp_path / "two" / "checkpoint", still)


def test_weights_spread_over_two_processes_train_as_in_one(sentiment, still, tmp_path):
    """By FSDP, interrupted in between and taken up again; with a second training, of which accelerate must forget."""
    text = RECIPE.replace(", hidden: 1.0, logits: 0.5", "").replace(", lora: {{rank: 4}}", "")
    text = text.replace("epochs: 40", "epochs: 12")
    cache, two = tmp_path / "cache", recipe(tmp_path, "two", sentiment, still, 16, text)
    interrupt(two, tmp_path / "two", cache, SHARDED)
    assert [*cache.glob("unfinished/*/checkpoint-*/pytorch_model_fsdp_0/*.distcp")]
    with launched(two, tmp_path / "two", cache, SHARDED) as process:
        said = process.communicate(timeout=200)[1]
    found = report.read(tmp_path / "two")
    assert (found.exit_code, found.steps[2].notes["resumed"]) == (3, True), said
    assert [step.notes.get("processes") for step in found.steps] == [None, None, 2, 2]
    compressit.apply(recipe(tmp_path, "one", sentiment, still, 32, text), tmp_path / "one", waterfall=False)
    agree(tmp_path / "one" / "checkpoint", tmp_path / "two" / "checkpoint", still)


TRAINED = """\
name: trained
task: text-classification
model: {model}
dataset: {{path: {data}, train: "train.jsonl[:32]", evaluation: "test.jsonl[:40]", columns: {{text: sentence}}}}
steps: [{{step: finetune, epochs: 2, batch_size: {batch_size}}}]
metrics: [accuracy]
"""


def test_two_processes_zero_and_round_the_same_weights(sentiment, still, tmp_path):
    own = "every: 1, epochs: 6, batch_size: 16"
    steps = (
        f"[{{{{step: prune_gradually, sparsity: 0.75, criterion: movement, {own}}}}}, "
        "{{step: quantize_qat, bits: 2, group_size: 16, epochs: 2, batch_size: 16}}]"
    )
    text = TRAINED.replace("[{{step: finetune, epochs: 2, batch_size: {batch_size}}}]", steps)
    with launched(recipe(tmp_path, "both", sentiment, still, 16, text), tmp_path / "out", tmp_path / "cache") as done:
        said = done.communicate(timeout=200)[1]
    assert done.returncode == 0, said
    pruned, rounded = (step.notes for step in report.read(tmp_path / "out").steps)
    assert (pruned["processes"], pruned["updates"], pruned["sparsity"]) == (2, 6, 0.75)
    assert (rounded["processes"], rounded["updates"], rounded["layers"]) == (2, 2, 24)


def test_two_processes_walk_as_one(sentiment, still, tmp_path):
    """Each with half of the calibration texts, and the statistics of all of them."""
    steps = "[{{step: prune_sparsegpt, pattern: '2:4'}}, {{step: quantize_gptq, bits: 4, group_size: 16}}]"
    steps = steps.replace("}}", ", precision: float32}}")
    text = TRAINED.replace("[{{step: finetune, epochs: 2, batch_size: {batch_size}}}]", steps)
    text = text.replace("evaluation:", 'calibration: "train.jsonl[:32]", evaluation:')
    file = recipe(tmp_path, "both", sentiment, still, 16, text)
    with launched(file, tmp_path / "two", tmp_path / "cache") as done:
        said = done.communicate(timeout=200)[1]
    assert done.returncode == 0, said
    assert [step.notes["processes"] for step in report.read(tmp_path / "two").steps] == [2, 2]
    compressit.apply(file, tmp_path / "one", waterfall=False)
    one, two = (compressit.load(tmp_path / name / "checkpoint").module.state_dict() for name in ("one", "two"))
    assert one.keys() == two.keys()
    changed = [name for name in one if name.endswith("weight") and ".layer." in name and "Norm" not in name]
    assert len(changed) == 24
    for name in changed:
        # Sums are rounded in another order, and where that turns one choice, what makes up for it follows.
        share = 0.001 if ".0.attention.self." in name else 0.3
        assert ((one[name] == 0) == (two[name] == 0)).float().mean() > 0.98, name
        assert (one[name] - two[name]).norm() < share * one[name].norm(), name


@pytest.mark.parametrize("small", [0, 1])
def test_an_error_of_one_ends_both(small, sentiment, still, tmp_path):
    file = recipe(tmp_path, "trained", sentiment, still, 16, TRAINED)
    codes, said = by_hand(file, tmp_path / "out", tmp_path / "cache", small)
    assert codes[0] == codes[1] != 0, said
    assert not (tmp_path / "out").exists()
    assert small == 0 or "process 1 of 2" in said[0][1]


def test_an_error_before_any_work_ends_both(sentiment, still, tmp_path):
    file = recipe(tmp_path, "wrong", sentiment, still, 16, TRAINED.replace("epochs", "epocs"))
    codes, said = by_hand(file, tmp_path / "out", tmp_path / "cache")
    assert codes == [2, 2]
    assert "epocs" in said[0][1]
    assert said[1] == ("", "")


def test_a_launcher_that_starts_one_process_alone_is_named(tmp_path):
    (tmp_path / "wrong.yaml").write_text("nothing: 1\n")
    asked = [sys.executable, "-m", *ACCELERATE, "-m", "compressit", "apply", str(tmp_path / "wrong.yaml")]
    asked.remove("--multi_gpu")
    done = subprocess.run(asked, capture_output=True, text=True, check=False, timeout=200)
    assert done.returncode
    assert done.stderr.count("warning: accelerate started one process only") == 1, done.stderr
    assert "unknown key 'nothing'" in done.stderr


def test_sharded_training_is_refused(sentiment, still, tmp_path):
    file = recipe(tmp_path, "trained", sentiment, still, 16, TRAINED)
    codes, said = by_hand(file, tmp_path / "out", tmp_path / "cache", ACCELERATE_USE_FSDP="true")
    assert codes == [5, 5]
    assert "FSDP" in said[0][1]
    assert said[1] == ("", "")


def test_a_call_from_python_says_how_several_are_started(monkeypatch, tmp_path):
    for name in ranks.CONTRACT:
        monkeypatch.setenv(name, "2")
    with pytest.raises(RecipeError, match="several processes"):
        compressit.apply(tmp_path / "any.yaml")
