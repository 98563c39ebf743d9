"""What cutting a language model smaller costs without any training: loss on held-out text, by method and seed.

    python tests/benchmarks/bench_structured_lm.py --model FOLDER --calibration FILE.txt --heldout FILE.txt
        [--sparsity 0.2] [--windows 64] [--length 512] [--seeds 0 1 2] [--steps prune_ffn ...]

A seed draws the windows of the calibration text. Held-out windows are the text's first. `share` is how much of the
matrices inside the blocks is left.
"""

import argparse
import random
import statistics
import tempfile
from pathlib import Path

import datasets
import numpy as np
import torch
from bench_structured import matrices, quiet

from compressit import model
from compressit.progress import Silent
from compressit.steps import StepContext, load

TASK = "text-generation"
CUTS = {
    "fisher, refit": {"importance": "fisher"},
    "fisher, no refit": {"importance": "fisher", "refit": False},
    "activation, refit": {"importance": "activation", "uniform": True},
    "random, refit": {"importance": "random", "uniform": True},
    "random, no refit": {"importance": "random", "uniform": True, "refit": False},
}


def asked() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", type=Path, required=True)
    parser.add_argument("--calibration", type=Path, required=True)
    parser.add_argument("--heldout", type=Path, required=True)
    parser.add_argument("--sparsity", type=float, default=0.2)
    parser.add_argument("--windows", type=int, default=64)
    parser.add_argument("--length", type=int, default=512)
    parser.add_argument("--seeds", nargs="*", type=int, default=[0, 1, 2])
    parser.add_argument("--steps", nargs="*", default=["prune_ffn", "prune_heads", "prune_width", "drop_layers"])
    return parser.parse_args()


def texts(file: Path, tokenizer, length: int) -> tuple[np.ndarray, list[str]]:
    """Cut a text into windows of so many tokens: their ids, and what they say."""
    ids = tokenizer(file.read_text(), add_special_tokens=False)["input_ids"]
    windows = np.array(ids[: len(ids) // length * length]).reshape(-1, length)
    return windows, tokenizer.batch_decode(windows)


def loss(found: model.Model, windows: torch.Tensor) -> float:
    total = 0.0
    with torch.inference_mode():
        for ids in windows.split(8):
            logits = found.module(input_ids=ids, use_cache=False).logits[:, :-1].float()
            total += float(torch.nn.functional.cross_entropy(logits.transpose(1, 2), ids[:, 1:], reduction="sum"))
    return total / windows[:, 1:].numel()


def main() -> None:
    given = asked()
    quiet()
    original = model.load(given.model, TASK)
    heldout = torch.from_numpy(texts(given.heldout, original.processor, given.length)[0])[: given.windows]
    pool = texts(given.calibration, original.processor, given.length)[1]
    whole, before, depth = matrices(original), loss(original, heldout), len(original.blocks())
    print(f"original: loss {before:.4f}")
    print("| step | method | share | increase by seed | mean |\n|---|---|---|---|---|", flush=True)
    keep = round(depth * (1 - given.sparsity))
    runs = [(step, way, fields) for step in ("prune_ffn", "prune_heads") for way, fields in CUTS.items()]
    # All blocks have the same channels.
    whole_width = {way: {key: fields[key] for key in fields if key != "uniform"} for way, fields in CUTS.items()}
    runs += [("prune_width", way, fields) for way, fields in whole_width.items()]
    runs += [
        ("drop_layers", way, {"keep": keep, "choose": way}) for way in ("divergence", "influence", "spaced", "first")
    ]
    runs += [("drop_layers", "random", {})]
    runs = [run for run in runs if run[0] in given.steps]
    for step, way, fields in runs:
        found, rises = None, []
        for seed in given.seeds if way not in ("spaced", "first") else given.seeds[:1]:
            draw = random.Random(seed)
            rows = datasets.Dataset.from_dict({"text": draw.sample(pool, given.windows)})
            amount = {} if step == "drop_layers" else {"sparsity": given.sparsity}
            if fields.get("importance", "random") != "random":
                amount["batch_size"] = 8
            if (step, way) == ("drop_layers", "random"):
                amount = {"keep": tuple(sorted(draw.sample(range(depth), keep)))}
            with tempfile.TemporaryDirectory() as folder:
                context = StepContext(None, rows, None, "cpu", seed, Silent(), Path(folder), given.length)
                found = model.load(given.model, TASK)
                load(step).run(found, load(step).Config(step=step, **amount, **fields), context)
            rises.append(loss(found, heldout) - before)
        each = ", ".join(f"{rise:.4f}" for rise in rises)
        print(f"| {step} | {way} | {matrices(found) / whole:.0%} | {each} | {statistics.mean(rises):.4f} |", flush=True)


if __name__ == "__main__":
    main()
