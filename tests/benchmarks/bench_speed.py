"""What a command costs before it works, and what each runtime and precision gives: medians of neighbouring runs.

Run with `make bench`. It asserts nothing; it prints.
"""

import os
import statistics
import subprocess
import sys
import time

import pytest

from compressit import data, exports, model
from compressit.measure import Beside, Setting, Subject, measure
from compressit.report.bounds import paired_median_ratio

SIZES = (1, 8, 32)


@pytest.mark.parametrize("arguments", [["--help"], ["validate", "recipes/quickstart.yaml"]], ids=" ".join)
def test_a_command_that_does_no_work(arguments):
    seconds = []
    for _ in range(11):
        begun = time.perf_counter()
        subprocess.run([sys.executable, "-m", "compressit", *arguments], check=True, stdout=subprocess.DEVNULL)
        seconds.append(time.perf_counter() - begun)
    print(f"\ncompressit {' '.join(arguments)}: {statistics.median(seconds):.2f} s")


@pytest.fixture(scope="module")
def minilm(tmp_path_factory):
    """A BERT of MiniLM's size with untrained weights, and sentences; or the checkpoint that BENCH_MODEL names."""
    import datasets
    import torch
    from transformers import BertConfig, BertForSequenceClassification

    from tests.conftest import sentences, tokenizer

    folder = tmp_path_factory.mktemp("minilm")
    named = os.environ.get("BENCH_MODEL")
    if named:
        opened = model.load(model.fetch(named), "text-classification")
    else:
        torch.manual_seed(0)
        tokens = tokenizer()
        size = {"hidden_size": 384, "num_hidden_layers": 6, "num_attention_heads": 12, "intermediate_size": 1536}
        config = BertConfig(vocab_size=30522, **size)
        opened = model.Model(BertForSequenceClassification(config).eval(), tokens, "text-classification", "minilm")
    opened.save(folder / "original")
    rows = datasets.Dataset.from_list([{"text": row["sentence"], "label": row["label"]} for row in sentences(200, 0)])
    rows.save_to_disk(str(folder / "rows"))
    examples = [batch for _, batch in data.batches(rows.select(range(40)), opened, 8)]
    for name, fields in (("float32", {}), ("int8", {"weights": "int8"})):
        export = exports.load("onnx")
        (folder / name).mkdir()
        export.run(opened, export.Config(export="onnx", **fields), folder / name, examples)
    return folder


def test_runtimes_and_precisions(minilm):
    setting = Setting("text-classification", str(minilm / "rows"), 0)
    torch = Subject(str(minilm / "original"), "torch")
    plain = Subject(str(minilm / "float32"), "onnxruntime")
    int8 = Subject(str(minilm / "int8"), "onnxruntime")
    found = measure(int8, setting, Beside(plain, torch, SIZES)).timings
    print("\nbatch   torch   onnxruntime (x torch)   int8 (x onnxruntime)")
    for size, timing in found.items():
        gain = 1 / paired_median_ratio(timing.baseline, timing.original)
        int8_gain = 1 / paired_median_ratio(timing.artifact, timing.baseline)
        print(f"{size:>5}   {statistics.median(timing.original) * 1e3:.1f} ms   {gain:.2f}x   {int8_gain:.2f}x")
