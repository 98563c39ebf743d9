"""Questions through the whole line: from the file to answers of the checkpoint and of its int8 export."""

import json

import numpy as np
import pytest
import torch
import transformers

import compressit
from compressit.errors import DataError, ExitCode
from compressit.progress import Silent
from compressit.serving import drift
from compressit.serving.finished import opened
from tests.questions import questions, save_answerer

TEXT = """\
name: questions
task: question-answering
model: model
dataset:
  path: .
  train: train.jsonl
  calibration: train.jsonl[:64]
  evaluation: test.jsonl
  max_length: 20
  stride: 6
steps:
  - {step: drop_layers, keep: 3, choose: divergence}
  - {step: prune_structured, sparsity: 0.25, length: 1}
  - {step: distill, epochs: 2, learning_rate: 1e-3}
exports:
  - {export: onnx, weights: int8}
targets:
  - {metric: exact_match, max_drop: 0.3}
  - {metric: answer_f1, min: 0.5}
"""


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """One run of everything: its folder and its report. Some rows of the training split have no answers."""
    folder = tmp_path_factory.mktemp("questions")
    save_answerer(folder / "model", questions(500, 1, 0.2))
    train = [{**row, "answers": None} if number % 4 == 0 else row for number, row in enumerate(questions(300, 1, 0.2))]
    for name, rows in (("train", train), ("test", questions(120, 2, 0.2))):
        (folder / f"{name}.jsonl").write_text("\n".join(map(json.dumps, rows)))
    (folder / "r.yaml").write_text(TEXT)
    return folder, compressit.apply(folder / "r.yaml", folder / "out")


def test_the_report_has_the_figures_of_answers(run):
    folder, report = run
    assert [artifact.name for artifact in report.artifacts] == ["checkpoint", "onnx"]
    for artifact in (report.original, *report.artifacts):
        found = {reading.metric: reading for reading in artifact.readings}
        assert [*found] == ["exact_match", "answer_f1", "agreement", "latency", "throughput", "size"]
        for name in ("exact_match", "answer_f1"):
            assert 0.5 < found[name].low <= found[name].value <= found[name].high <= 1
            assert {*found[name].details} == {"answerable", "unanswerable"}
    about = json.loads((folder / "out" / "report.json").read_text())["provenance"]["data"]
    assert (about["context length"], about["stride"], about["no answer"]) == (20, 6, "allowed")
    assert about["windows"] > about["examples"] == 120
    assert r"exact\_match 0." in (folder / "out" / "report.md").read_text()


def test_what_was_answered_is_kept(run):
    folder, report = run
    rows = [json.loads(line) for line in (folder / "test.jsonl").read_text().splitlines()]
    for artifact in report.artifacts:
        with np.load(folder / "out" / "examples" / f"{artifact.name}.npz") as said:
            assert {*said.files} == {"answers", "exact", "f1", "answerable", "examples"}
            assert all(text in row["context"] for text, row in zip(said["answers"], rows, strict=True))
            assert artifact.readings[0].value == pytest.approx(said["exact"].mean())


def test_the_checkpoint_answers_with_plain_transformers(run):
    folder, _ = run
    checkpoint = folder / "out" / "checkpoint"
    tokens = transformers.AutoTokenizer.from_pretrained(checkpoint)
    model = compressit.load(checkpoint).module
    rows = [json.loads(line) for line in (folder / "test.jsonl").read_text().splitlines()]
    with np.load(folder / "out" / "examples" / "checkpoint.npz") as said:
        same = 0
        for row, answer in zip(rows[:40], said["answers"], strict=False):
            given = tokens(row["question"], row["context"], return_tensors="pt", return_offsets_mapping=True)
            offsets = given.pop("offset_mapping")[0].tolist()
            with torch.inference_mode():
                made = model(**given)
            inside = [place for place, part in enumerate(given.sequence_ids()) if part == 1]
            start, end = made.start_logits[0], made.end_logits[0]
            spans = [(float(start[i] + end[j]), i, j) for i in inside for j in inside if j >= i]
            score, first, last = max(spans)
            text = row["context"][offsets[first][0] : offsets[last][1]] if score >= float(start[0] + end[0]) else ""
            same += text == answer
    assert same > 30, "whole contexts and windows of them mostly give the same answer"


def test_fresh_questions_are_held_against_the_report(run, tmp_path, measured_here):
    """Where all of them can be answered nobody may say that there is no answer, and that is said."""
    finished = opened(run[0] / "out")

    def checked(rows):
        (tmp_path / "fresh.jsonl").write_text("\n".join(map(json.dumps, rows)))
        return drift.check(finished, drift.Wanted(str(tmp_path / "fresh.jsonl"), "checkpoint"), Silent())

    same = checked(questions(400, 7, 0.2))
    assert [verdict.metric for verdict in same.verdicts] == ["exact_match", "answer_f1"]
    assert same.exit_code is not ExitCode.TARGET_MISSED
    assert same.notes == ()
    assert checked(questions(400, 8, 0.9)).exit_code is ExitCode.TARGET_MISSED
    (note,) = checked(questions(60, 9)).notes
    assert note.endswith("no answer is 'not allowed' for these rows, and was 'allowed'")
    bare = [{name: row[name] for name in ("question", "context")} for row in questions(5, 9)]
    with pytest.raises(DataError, match="has no column 'answers' for answers"):
        checked(bare)
