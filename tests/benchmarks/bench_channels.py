"""What cutting the inside of convolutional classifiers costs and saves: accuracy without training, and latency.

    python tests/benchmarks/bench_channels.py accuracy [--models resnet convnext] [--seeds 0 1 2] [--out FILE.json]
    python tests/benchmarks/bench_channels.py latency [--out FILE.json]

`accuracy` trains a small ResNet and a small ConvNeXt on two thirds of scikit-learn's digits, stretched to 32 x 32, one
for each seed, and cuts a share out of each in several ways, on 256 training pictures; what is right of the 599 others
is counted on what was saved and opened again. `latency` cuts an untrained ResNet-18 and ConvNeXt-T down, and times
them on 224 x 224 pixels next to the whole ones, in turns: the median of each pair's ratio. FLOPs are those inside the
blocks. The whole ones are timed in int8 on onnxruntime, too, next to their float32: as the export does it by itself,
and with ranges as they come.
"""

import argparse
import json
import statistics
import tempfile
import time
from pathlib import Path

import datasets
import numpy as np
import torch
import transformers

from compressit import data, exports, model, runtimes
from compressit.data.demos import digits
from compressit.model import Model, counting
from compressit.progress import Silent
from compressit.steps import StepContext, load

TASK = "image-classification"
SIDE = 32
SMALL = {
    "resnet": ("ResNet", {"embedding_size": 32, "hidden_sizes": [32, 64, 128], "depths": [2, 2, 2],
                          "layer_type": "basic"}),
    "convnext": ("ConvNext", {"patch_size": 2, "num_stages": 3, "hidden_sizes": [32, 64, 96], "depths": [2, 2, 2],
                              "layer_scale_init_value": 0.1}),
}  # fmt: skip
LARGE = {
    "resnet": ("ResNet", {"embedding_size": 64, "hidden_sizes": [64, 128, 256, 512], "depths": [2, 2, 2, 2],
                          "layer_type": "basic"}),
    "convnext": ("ConvNext", {}),
}  # fmt: skip
STEP = {"resnet": "prune_channels", "convnext": "prune_ffn"}
METHODS = {
    "fisher, refit": {"importance": "fisher"},
    "fisher, refit, 4 rounds": {"importance": "fisher", "rounds": 4},
    "fisher, refit, norms anew": {"importance": "fisher", "anew": True},
    "fisher, no refit, norms anew": {"importance": "fisher", "refit": False, "anew": True},
    "fisher, refit, by FLOPs": {"importance": "fisher", "budget": "multiplications"},
    "activation, refit, by FLOPs": {"importance": "activation", "budget": "multiplications"},
    "fisher, no refit": {"importance": "fisher", "refit": False},
    "activation, refit": {"importance": "activation"},
    "activation, no refit": {"importance": "activation", "refit": False},
    "magnitude, refit": {"importance": "magnitude"},
    "magnitude, no refit": {"importance": "magnitude", "refit": False},
    "magnitude, even, refit": {"importance": "magnitude", "uniform": True},
    "magnitude, even, no refit": {"importance": "magnitude", "uniform": True, "refit": False},
    "random, even, refit": {"importance": "random", "uniform": True},
    "random, even, no refit": {"importance": "random", "uniform": True, "refit": False},
    "random, even, no refit, norms anew": {"importance": "random", "uniform": True, "refit": False, "anew": True},
}
PAIRS = 40
"""Timings of each of the two."""


def built(prefix, fields, side, seed):
    torch.manual_seed(seed)
    labels = {index: str(index) for index in range(10)}
    ids = {label: index for index, label in labels.items()}
    config = getattr(transformers, f"{prefix}Config")(**fields, id2label=labels, label2id=ids)
    module = getattr(transformers, f"{prefix}ForImageClassification")(config)
    processor = transformers.ViTImageProcessorPil(size={"height": side, "width": side})
    return Model(module.eval(), processor, TASK, f"{prefix}-{seed}")


def context(found, rows, train, seed, scratch):
    return StepContext(train, rows, lambda path: found, "cpu", seed, Silent(), Path(scratch))


def trained(name, train, seed, scratch, epochs):
    found = built(*SMALL[name], SIDE, seed)
    step = load("finetune")
    config = step.Config(step="finetune", epochs=epochs, batch_size=32, learning_rate=2e-3, warmup=0.1)
    transformers.set_seed(seed)
    step.run(found, config, context(found, None, train, seed, Path(scratch) / f"train-{name}-{seed}"))
    return found


def accuracy(found, rows):
    right = 0
    with torch.inference_mode():
        for _, batch in data.batches(rows, found, 64):
            labels = batch.pop("labels")
            right += int((found.module(**batch).logits.argmax(-1) == labels).sum())
    return right / len(rows)


def norms_anew(found, rows):
    """Take the means and variances of batch norms from pictures again."""
    norms = [part for part in found.module.modules() if isinstance(part, torch.nn.BatchNorm2d)]
    for norm in norms:
        norm.reset_running_stats()
        norm.momentum = None
        norm.train()
    with torch.no_grad():
        for _, batch in data.batches(rows, found, 64):
            found.module(pixel_values=batch["pixel_values"])
    found.module.eval()


def cut(folder, name, fields, rows, seed, place):
    """Cut a saved model down and save it again: the FLOPs that are left, and what was saved, opened."""
    found = model.load(folder, TASK)
    step = load(STEP[name])
    own = {key: value for key, value in fields.items() if key != "anew"}
    step.run(found, step.Config(step=STEP[name], **own), context(found, rows, None, seed, Path(place) / "scratch"))
    if "anew" in fields:
        norms_anew(found, rows)
    found.save(Path(place) / "saved")
    left = counting.multiplications(Path(place) / "saved", TASK) / counting.multiplications(folder, TASK)
    return left, model.load(Path(place) / "saved", TASK)


def by_accuracy(given):
    splits = digits.splits()
    pool, test, records = splits["train"], splits["test"], []
    for name in given.models:
        with tempfile.TemporaryDirectory() as folder:
            whole = {}
            for seed in given.seeds:
                trained(name, pool, seed, folder, given.epochs).save(Path(folder) / str(seed))
                whole[seed] = accuracy(model.load(Path(folder) / str(seed), TASK), test)
            print(f"\n{name}, {STEP[name]}: whole {', '.join(f'{score:.4f}' for score in whole.values())}")
            print("| method | cut | FLOPs | accuracy by seed | mean | points |\n|---|---|---|---|---|---|", flush=True)
            for share in given.sparsity:
                for method in given.methods:
                    if name != "resnet" and METHODS[method].keys() & {"anew", "budget"}:
                        continue
                    scores, flops, begun = [], [], time.perf_counter()
                    for seed in given.seeds:
                        rows = pool.shuffle(seed=seed).select(range(256))
                        fields = {"sparsity": share, **METHODS[method]}
                        with tempfile.TemporaryDirectory() as place:
                            left, again = cut(Path(folder) / str(seed), name, fields, rows, seed, place)
                            scores.append(accuracy(again, test))
                        flops.append(left)
                    mean, before = statistics.mean(scores), statistics.mean(whole.values())
                    each = ", ".join(f"{score:.4f}" for score in scores)
                    print(f"| {method} | {share:.0%} | {statistics.mean(flops):.0%} | {each} | {mean:.4f} | "
                          f"{100 * (mean - before):+.2f} |", flush=True)  # fmt: skip
                    records.append({"model": name, "method": method, "share": share, "accuracy": scores,
                                    "whole": [*whole.values()], "flops": flops,
                                    "seconds": (time.perf_counter() - begun) / len(scores)})  # fmt: skip
    return records


INT8 = {"int8": {}, "int8, dynamic": {"activations": "dynamic"}}


def rounded(found, place):
    """Open a model's int8 exports, on pictures of noise."""
    examples = [{"pixel_values": torch.randn(1, 3, 224, 224), "labels": torch.zeros(1)} for _ in range(4)]
    form = exports.load("onnx")
    for name, fields in INT8.items():
        target = Path(place) / name
        target.mkdir(parents=True)
        notes = form.run(
            found, form.Config(export="onnx", weights="int8", **fields), target, examples[:1], lambda count: examples
        )
        kind = "onnxruntime, int8, " + notes["activations"] + ("" if fields else " by default")
        yield kind, runtimes.load("onnxruntime").open(target, TASK, "cpu")


def sessions(found, place):
    """Open a model as saved, and its export."""
    found.save(Path(place) / "saved")
    example = {"pixel_values": torch.randn(1, 3, 224, 224), "labels": torch.zeros(1)}
    form, target = exports.load("onnx"), Path(place) / "onnx"
    target.mkdir()
    form.run(found, form.Config(export="onnx"), target, [example])
    return {
        "torch": runtimes.load("torch").open(Path(place) / "saved", TASK, "cpu"),
        "onnxruntime": runtimes.load("onnxruntime").open(target, TASK, "cpu"),
    }


def by_latency(given):
    records, inputs = [], {"pixel_values": np.random.default_rng(0).standard_normal((1, 3, 224, 224), np.float32)}
    print("| model | cut | FLOPs | runtime | whole, ms | ratio |\n|---|---|---|---|---|---|", flush=True)
    for name in given.models:
        with tempfile.TemporaryDirectory() as folder:
            found = built(*LARGE[name], 224, 0)
            both = sessions(found, Path(folder) / "whole")
            for kind, session in rounded(found, Path(folder) / "rounded"):
                ratio, whole = paired(both["onnxruntime"], session, inputs)
                print(f"| {name} | 0% | 100% | {kind} | {1000 * whole:.1f} | {ratio:.2f} |", flush=True)
                records.append({"model": name, "share": 0, "runtime": kind, "ms": 1000 * whole, "ratio": ratio})
            for share in given.sparsity:
                place = Path(folder) / f"cut-{share}"
                fields = {"sparsity": share, "importance": "random", "uniform": True, "refit": False}
                left, again = cut(Path(folder) / "whole" / "saved", name, fields, None, 0, place)
                for runtime, session in sessions(again, place / "again").items():
                    ratio, whole = paired(both[runtime], session, inputs)
                    row = f"| {name} | {share:.0%} | {left:.0%} | {runtime} | {1000 * whole:.1f} | {ratio:.2f} |"
                    print(row, flush=True)
                    records.append({"model": name, "share": share, "flops": left, "runtime": runtime,
                                    "ms": 1000 * whole, "ratio": ratio})  # fmt: skip
    return records


def paired(one, other, inputs):
    """Time two in turns: the median of their ratios, and of the first one's times."""
    times = []
    for turn in range(PAIRS + 3):
        pair = {}
        for which in (0, 1) if turn % 2 else (1, 0):
            begun = time.perf_counter()
            (one, other)[which](inputs)
            pair[which] = time.perf_counter() - begun
        times += [pair] if turn > 2 else []
    return statistics.median(p[1] / p[0] for p in times), statistics.median(p[0] for p in times)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=["accuracy", "latency"])
    parser.add_argument("--models", nargs="*", default=[*SMALL])
    parser.add_argument("--methods", nargs="*", default=[*METHODS])
    parser.add_argument("--sparsity", nargs="*", type=float, default=[0.3, 0.5])
    parser.add_argument("--seeds", nargs="*", type=int, default=[0, 1, 2])
    parser.add_argument("--epochs", type=int, default=12)
    parser.add_argument("--out", type=Path)
    given = parser.parse_args()
    transformers.utils.logging.set_verbosity_error()
    transformers.utils.logging.disable_progress_bar()
    datasets.disable_progress_bars()
    records = {"accuracy": by_accuracy, "latency": by_latency}[given.what](given)
    if given.out:
        given.out.write_text(json.dumps(records, indent=1))


if __name__ == "__main__":
    main()
