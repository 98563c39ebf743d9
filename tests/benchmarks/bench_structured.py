"""What cutting heads and neurons costs without any training: a table of methods, shares and seeds.

    python tests/benchmarks/bench_structured.py --model FOLDER --data FOLDER [--calibration train.jsonl]
        [--test test.jsonl] [--text sentence] [--sparsity 0.5] [--rows 512] [--seeds 0 1 2] [--out FILE.json]

Each run starts from the model anew, cuts the same share of the heads and then of the neurons, or both under one budget
of multiplications, saves, and opens what was saved. FLOPs are those of the matrices inside the blocks, as a share of
the original's. A seed draws the calibration rows; the test rows are used for nothing else.
"""

import argparse
import json
import random
import statistics
import tempfile
import time
from dataclasses import replace
from pathlib import Path

import datasets
import torch
import transformers

from compressit import data, model
from compressit.progress import Silent
from compressit.steps import StepContext, load

TASK = "text-classification"
METHODS = {
    "fisher, refit": {"importance": "fisher"},
    "fisher, refit, 4 rounds": {"importance": "fisher", "rounds": 4},
    "fisher, no refit": {"importance": "fisher", "refit": False},
    "one budget, refit": {"importance": "fisher", "length": 32},
    "one budget, refit, 4 rounds": {"importance": "fisher", "length": 32, "rounds": 4},
    "latency, refit": {"importance": "fisher", "length": 128, "budget": "latency"},
    "magnitude, refit": {"importance": "magnitude", "uniform": True},
    "magnitude, no refit": {"importance": "magnitude", "uniform": True, "refit": False},
    "random, refit": {"importance": "random", "uniform": True},
    "random, no refit": {"importance": "random", "uniform": True, "refit": False},
}


def asked() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", type=Path, required=True)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--calibration", default="train.jsonl")
    parser.add_argument("--test", default="test.jsonl")
    parser.add_argument("--text", default="sentence")
    parser.add_argument("--sparsity", type=float, default=0.5)
    parser.add_argument("--rows", type=int, default=512)
    parser.add_argument("--seeds", nargs="*", type=int, default=[0, 1, 2])
    parser.add_argument("--methods", nargs="*", default=list(METHODS))
    parser.add_argument("--out", type=Path)
    return parser.parse_args()


def read(file: Path, text: str) -> datasets.Dataset:
    lines = [json.loads(line) for line in file.read_text().splitlines()]
    return datasets.Dataset.from_dict({"text": [r[text] for r in lines], "label": [r["label"] for r in lines]})


def accuracy(found: model.Model, rows: datasets.Dataset) -> float:
    right = 0
    with torch.inference_mode():
        for _, batch in data.batches(rows, found, 32):
            labels = batch.pop("labels")
            right += int((found.module(**batch).logits.argmax(-1) == labels).sum())
    return right / len(rows)


def matrices(found: model.Model) -> int:
    """Count the weights of the matrices inside the blocks."""
    state = found.module.state_dict()
    return sum(matrix.of(state).numel() for matrix in found.matrices().values())


def quiet() -> None:
    transformers.utils.logging.set_verbosity_error()
    transformers.utils.logging.disable_progress_bar()
    datasets.disable_progress_bars()


def main() -> None:
    given = asked()
    quiet()
    pool, test = read(given.data / given.calibration, given.text), read(given.data / given.test, given.text)
    original = model.load(given.model, TASK)
    whole, before = matrices(original), accuracy(original, test)
    print(f"original: accuracy {before:.4f} on {len(test)} rows")
    print("| method | FLOPs | accuracy by seed | mean | points | seconds |\n|---|---|---|---|---|---|", flush=True)
    records = []
    for name in given.methods:
        for seed in given.seeds:
            rows = pool.select(random.Random(seed).sample(range(len(pool)), given.rows))
            with tempfile.TemporaryDirectory() as folder:
                context = StepContext(
                    None, rows, lambda path: original, "cpu", seed, Silent(), Path(folder) / "scratch"
                )
                found = model.load(given.model, TASK)
                begun = time.perf_counter()
                for step in ("prune_structured",) if "length" in METHODS[name] else ("prune_heads", "prune_ffn"):
                    config = load(step).Config(step=step, sparsity=given.sparsity, **METHODS[name])
                    notes = load(step).run(found, config, replace(context, scratch=context.scratch / step))
                seconds = time.perf_counter() - begun
                found.save(Path(folder) / "saved")
                again = model.load(Path(folder) / "saved", TASK)
                flops, score = matrices(again) / whole, accuracy(again, test)
            records.append(
                {"method": name, "seed": seed, "flops": flops, "accuracy": score, "seconds": seconds, **notes}
            )
        own = [record for record in records if record["method"] == name]
        mean = statistics.mean(record["accuracy"] for record in own)
        each = ", ".join(f"{record['accuracy']:.4f}" for record in own)
        took = statistics.median(record["seconds"] for record in own)
        print(
            f"| {name} | {own[0]['flops']:.1%} | {each} | {mean:.4f} | {100 * (mean - before):+.2f} | {took:.0f} |",
            flush=True,
        )
    if given.out:
        given.out.write_text(json.dumps(records, indent=1))


if __name__ == "__main__":
    main()
