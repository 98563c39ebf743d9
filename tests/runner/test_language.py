"""A language model through the whole line."""

import json
import math
import re

import numpy as np
import pytest
import transformers

import compressit
from compressit.errors import ExitCode, RecipeError
from compressit.progress import Silent
from compressit.serving import drift
from compressit.serving.finished import opened
from tests.conftest import story

TEXT = """\
name: stories
task: text-generation
model: {folder}/model
dataset:
  path: {folder}
  evaluation: test.txt
  max_length: 64
steps:
  - step: quantize_rtn
    bits: 4
    group_size: 32
targets:
  - {{metric: perplexity, max_ratio: 1.2}}
  - {{metric: agreement, min: 0.8}}
"""


@pytest.fixture(scope="module")
def run(storyteller, tmp_path_factory):
    folder = tmp_path_factory.mktemp("run")
    (folder / "r.yaml").write_text(TEXT.format(folder=storyteller))
    return folder / "out", compressit.apply(folder / "r.yaml", folder / "out")


def test_the_report_has_the_figures_of_a_language_model(run):
    folder, report = run
    assert report.exit_code is ExitCode.OK, [verdict.why for verdict in report.verdicts]
    said = json.loads((folder / "report.json").read_text())
    (artifact,) = said["artifacts"]
    found = {reading["metric"]: reading for reading in artifact["readings"]}
    assert [*found] == ["perplexity", "agreement", "kl_divergence", "latency", "throughput", "size"]
    assert 1 < found["perplexity"]["baseline"] < found["perplexity"]["value"] < 2
    assert found["perplexity"]["ratio_low"] <= found["perplexity"]["ratio"] <= found["perplexity"]["ratio_high"]
    assert found["agreement"]["low"] <= found["agreement"]["value"] < 1
    assert 0 < found["kl_divergence"]["value"] < 0.1
    original = {reading["metric"]: reading["value"] for reading in said["original"]["readings"]}
    assert (original["agreement"], original["kl_divergence"]) == (1, 0)
    data = said["provenance"]["data"]
    assert (data["packing"], data["context length"], data["tail"], data["start token"]) == (
        "joined", 64, "left out", "<s>"
    )  # fmt: skip
    assert data["scored tokens"] == 63 * data["windows"]
    assert "perplexity 1." in (folder / "report.md").read_text()


def test_the_figures_of_each_window_are_kept(run):
    folder, report = run
    with np.load(folder / "examples" / "checkpoint.npz") as said:
        assert {*said.files} == {"nll", "tokens", "correct", "examples", "agreed", "divergence"}
        perplexity = math.exp(said["nll"].sum() / said["tokens"].sum())
    assert report.artifacts[0].readings[0].value == pytest.approx(perplexity)


def test_windows_that_got_worse_are_shown_as_text(run, cli):
    folder, _ = run
    page = (folder / "report.html").read_text()
    assert re.search(r"<td><bdi>&lt;s&gt;[^<]*(wanted a|lived|found the)[^<]*</bdi></td>", page)
    assert "nats a token" in page
    assert "Without text" not in page
    assert cli("report", folder, "--html", folder.parent / "again.html").returncode == 0
    assert (folder.parent / "again.html").read_text() == page


def test_the_checkpoint_goes_on_with_a_story(run, storyteller):
    folder, _ = run
    checkpoint = folder / "checkpoint"
    tokens = transformers.AutoTokenizer.from_pretrained(checkpoint)
    model = transformers.AutoModelForCausalLM.from_pretrained(checkpoint)
    start = tokens("Once a bear lived", return_tensors="pt")
    text = tokens.decode(model.generate(**start, max_new_tokens=60, do_sample=False, pad_token_id=1)[0])
    assert "The bear wanted a" in text
    assert compressit.load(checkpoint).task == "text-generation"


def test_last_words_need_a_continuation(storyteller, write):
    text = TEXT.format(folder=storyteller).split("targets")[0] + "metrics: [last_word_accuracy]\n"
    with pytest.raises(RecipeError, match="last_word_accuracy is about rows that have continuation"):
        compressit.apply(write(text))


def test_fresh_texts_are_held_against_the_report(run, tmp_path, measured_here):
    finished, file = opened(run[0]), tmp_path / "fresh.txt"

    def checked(text):
        file.write_text(text)
        return drift.check(finished, drift.Wanted(str(file), max_ratio=1.2), Silent())

    same = checked(story(60, 5))
    assert (same.exit_code, same.notes) == (ExitCode.OK, ())
    assert [(verdict.metric, verdict.bound) for verdict in same.verdicts] == [("perplexity", "max_ratio")]
    turned = " ".join(reversed(story(60, 6).split()))
    assert checked(turned).exit_code is ExitCode.TARGET_MISSED
