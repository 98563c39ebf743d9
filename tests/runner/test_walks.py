"""Recipes that walk through a language model: whole, killed and taken up again, refused beforehand."""

import json
import signal
import time

import pytest
import torch

import compressit
from compressit import plan, recipe
from compressit.errors import RecipeError
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


def test_a_run_killed_in_the_middle_of_a_walk_ends_with_the_same_bytes(file, tmp_path):
    weights = []
    for name, killed in (("whole", False), ("resumed", True)):
        cache, output = tmp_path / f"cache-{name}", tmp_path / name
        if killed:
            with start(file, output, cache) as run:
                while len([*cache.glob("unfinished/*/step-2/0*.safetensors")]) < 2:
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
