"""Exports that calibrate are given the recipe's calibration split, and are held against a plain export."""

import compressit
from compressit.errors import ExitCode

RECIPE = """\
name: calibrated
task: text-classification
model: {model}
dataset:
  path: {data}
  calibration: train.jsonl[:64]
  evaluation: test.jsonl
  columns: {{text: sentence}}
exports:
  - {{export: openvino, weights: int8, compute: bfloat16, samples: 40}}
  - {{export: onnx, weights: int8, activations: static}}
metrics: [agreement, size]
targets:
  - {{metric: agreement, min: 0.9, artifact: openvino}}
  - {{metric: agreement, min: 0.9, artifact: onnx}}
"""


def test_ranges_come_from_the_calibration_split(write, sentiment, tmp_path):
    report = compressit.apply(write(RECIPE.format(model=sentiment / "model", data=sentiment)), tmp_path / "out")
    assert report.exit_code is ExitCode.OK, [verdict.why for verdict in report.verdicts]
    openvino, onnx = report.artifacts[1:]
    assert (openvino.runtime, openvino.notes["compute"]) == ("openvino", "bfloat16")
    assert onnx.runtime == "onnxruntime"
    assert {file.name for file in (tmp_path / "out" / "openvino").iterdir()} >= {
        "openvino_model.xml", "openvino_model.bin", "config.json", "tokenizer.json", "README.md",
    }  # fmt: skip
