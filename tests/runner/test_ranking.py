"""Candidates of queries, ranked, through the whole line: the group column travels from the file to the verdict."""

import json

import numpy as np
import pytest
from sklearn.metrics import roc_auc_score

import compressit
from tests.conftest import sentences

TEXT = """\
name: clicks
task: text-classification
model: {folder}
dataset:
  path: {data}
  train: clicks.jsonl[:50%]
  evaluation: clicks.jsonl[50%:]
  columns: {{text: sentence, group: query}}
steps:
  - {{step: drop_layers, keep: 1}}
metrics: [auc, {{metric: ndcg, k: 3}}, {{metric: hit, k: 1}}]
targets:
  - {{metric: ndcg, max_drop: 0.5}}
  - {{metric: auc, min: 0.6}}
"""


def test_from_the_file_to_the_verdict(sentiment, tmp_path):
    rows = [{**row, "query": f"q{number // 5}"} for number, row in enumerate(sentences(400, 7))]
    for row in rows[200:205]:
        row["label"] = 0
    (tmp_path / "clicks.jsonl").write_text("\n".join(map(json.dumps, rows)))
    (tmp_path / "r.yaml").write_text(TEXT.format(folder=sentiment / "model", data=tmp_path))
    report = compressit.apply(tmp_path / "r.yaml", tmp_path / "out")
    (artifact,) = report.artifacts
    found = {reading.metric: reading for reading in artifact.readings}
    with np.load(tmp_path / "out" / "examples" / "checkpoint.npz") as said:
        assert said["groups"].tolist() == [number // 5 for number in range(200)]
        score, labels = said["logits"] @ [-1, 1], said["labels"]
    assert found["auc"].value == pytest.approx(roc_auc_score(labels, score))
    groups = [(score[at : at + 5], labels[at : at + 5]) for at in range(0, 200, 5)]
    judged = [label[value.argmax()] for value, label in groups if label.any()]
    assert found["hit"].value == pytest.approx(np.mean(judged))
    assert found["hit"].details["groups"] == len(judged) == 40 - found["hit"].details["passed_over"]
    assert 0 < found["ndcg"].low <= found["ndcg"].value <= found["ndcg"].high
    assert "groups hold no relevant example and are passed over" in (tmp_path / "out" / "report.md").read_text()
    assert all(verdict.low is not None for verdict in report.verdicts)
