"""Recipes that walk through a language model: whole, killed and taken up again, refused beforehand."""

import json
import signal
import sys
import time

import pytest
import torch

import compressit
from compressit import estimates, plan, recipe
from compressit.errors import RecipeError
from compressit.model import mapped
from tests.model.test_mapped import in_memory
from tests.runner.test_interrupted import start

RECIPE = """\
name: walked
task: text-generation
model: {model}
dataset: {{path: {data}, calibration: "train.txt[:300]", evaluation: "test.txt[:60]", max_length: 32}}
steps:
  - step: prune_sparsegpt
    pattern: "2:4"
  - step: quantize_gptq
    bits: 4
    group_size: 32
metrics: [perplexity, nonzero, size]
targets:
  - metric: perplexity
    max_ratio: 3
"""


@pytest.fixture
def file(storyteller, tmp_path):
    file = tmp_path / "walked.yaml"
    file.write_text(RECIPE.format(model=storyteller / "model", data=storyteller))
    return file


def test_pruned_and_quantized_block_by_block_and_opened_by_plain_transformers(file, tmp_path, monkeypatch):
    monkeypatch.setenv("COMPRESSIT_CACHE", str(tmp_path / "cache"))
    found = compressit.apply(file, output=tmp_path / "out")
    (made,) = found.artifacts
    assert made.dtypes["int4"] > made.dtypes["float32"]
    assert {reading.metric: reading.value for reading in made.readings}["nonzero"] < 0.75
    assert found.steps[0].notes["sparsity"] == 0.5
    said = (tmp_path / "out" / "report.md").read_text()
    assert "int4 weights save disk, not time or memory" in said
    assert "zeros among the weights take the same room and time" in said
    from transformers import AutoModelForCausalLM

    module = AutoModelForCausalLM.from_pretrained(tmp_path / "out" / "checkpoint")
    for name, layer in module.named_modules():
        if isinstance(layer, torch.nn.Linear) and "layers" in name:
            assert bool((layer.weight.unflatten(1, (-1, 4)) == 0).sum(-1).ge(2).all()), name
    index = json.loads((tmp_path / "out" / "checkpoint" / "model.safetensors.index.json").read_text())
    assert len({*index["weight_map"].values()}) == 5, "four blocks, one after the other, and the rest"


SCALED = """\
  - step: quantize_awq
    average_bits: 5
    group_size: 32
    widths: [3, 4, 6]
"""


@pytest.mark.parametrize(
    ("steps", "walks"),
    [(None, ("unfinished/*",)), (SCALED, ("unfinished/*/scaled", "unfinished/*/rounded"))],
    ids=["pruned and rounded", "scaled and rounded"],
)
def test_a_run_killed_in_the_middle_of_a_walk_ends_with_the_same_bytes(steps, walks, file, tmp_path):
    if steps:
        head, _, rest = file.read_text().partition("  - step")
        file.write_text(head + steps + rest[rest.index("metrics:") :])
    weights = []
    for name, killed in (("whole", False), ("resumed", True)):
        cache, output = tmp_path / f"cache-{name}", tmp_path / name
        for walk in walks if killed else ():
            with start(file, output, cache) as run:
                # Of two steps the first is done.
                while (not steps and not (cache / "steps").is_dir()) or len(
                    [*cache.glob(f"{walk}/0*.safetensors")]
                ) < 2:
                    assert run.poll() is None, "it ended before it could be killed"
                    time.sleep(0.005)
                run.send_signal(signal.SIGKILL)
            assert not output.exists()
        with start(file, output, cache) as run:
            said = run.communicate(timeout=300)[1]
        assert run.returncode == 0, said
        weights.append([part.read_bytes() for part in sorted((output / "checkpoint").glob("*.safetensors"))])
    assert weights[0] == weights[1]


def test_the_plan_refuses_what_can_not_fit(file, monkeypatch):
    found = plan.plan(recipe.load(file))
    assert found.streams
    assert found.memory > 0
    assert found.seconds is not None
    monkeypatch.setattr("compressit.machine.memory", lambda: 500_000_000)
    with pytest.raises(RecipeError, match="memory"):
        plan.plan(recipe.load(file))


FROM_DISK = ("metrics: [perplexity, nonzero, size]", "metrics: [perplexity, agreement, kl_divergence, size]")


@pytest.fixture
def little(file, monkeypatch):
    """Make the machine too small, by a byte, for what measuring opens with all weights in memory."""
    file.write_text(file.read_text().replace(*FROM_DISK).replace("[:300]", "[:30]"))
    found = plan.plan(recipe.load(file))
    cost = estimates.of(found.written.recipe, found.before, [step.after for step in found.steps], streams=True)
    for name in ("memory", "free_memory"):
        monkeypatch.setattr(f"compressit.machine.{name}", lambda *device: cost.whole - 1)
    return cost.whole - 1


def test_measured_from_disk_where_memory_is_too_small(file, tmp_path, monkeypatch, little, measured_here):
    monkeypatch.setenv("COMPRESSIT_CACHE", str(tmp_path / "cache"))
    seen = []

    def load(*arguments, **more):
        seen.append((load_mapped(*arguments, **more), arguments[2]))
        assert arguments[2].is_relative_to(tmp_path)
        return seen[-1][0]

    load_mapped = mapped.load
    monkeypatch.setattr("compressit.model.mapped.load", load)
    found = compressit.apply(file, output=tmp_path / "little", waterfall=False)
    assert len(seen) == 3, "the original alone, then the checkpoint, and the original beside it"
    assert not any(place.exists() for _, place in seen)
    if sys.platform == "linux":
        assert not any(in_memory(model.module) for model, _ in seen)
    assert not (tmp_path / "little" / ".work").exists()
    for name in ("memory", "free_memory"):
        monkeypatch.setattr(f"compressit.machine.{name}", lambda *device: 10**12)
    again = compressit.apply(file, output=tmp_path / "enough")
    assert len(seen) == 3
    values = [[reading.value for reading in one.artifacts[0].readings] for one in (found, again)]
    assert values[0] == values[1]
    assert found.original.readings == again.original.readings


def test_the_plan_fits_measuring_into_little_memory(file, little):
    found = plan.plan(recipe.load(file))
    assert found.on_disk
    assert found.memory <= little
    assert found.disk.result > 2 * found.before.bytes, "integers are unpacked on disk"


@pytest.mark.parametrize(
    ("metrics", "named"),
    [("[perplexity, latency, size]", "latency"), ("[throughput, peak_memory]", "throughput and peak_memory")],
)
def test_the_plan_refuses_timings_of_a_disk(file, little, metrics, named):
    file.write_text(file.read_text().replace(FROM_DISK[1], f"metrics: {metrics}"))
    with pytest.raises(RecipeError, match=f"{named} would be the disk's.*is free") as caught:
        plan.plan(recipe.load(file))
    assert "metrics: [perplexity" in str(caught.value) + str(caught.value.hint)
