"""What recipes make of an encoder, next to int8 alone: a table of quality, verdicts, size and speed, by seed.

    python tests/benchmarks/bench_recipes.py RECIPE... [--set path.to.field=value ...] [--seeds 0 1 2]
        [--length 128] [--seconds 20] [--runs FOLDER] [--out FILE.json]

The recipes are of one task, one model and one data set. Each is applied once for each seed; a run that is in --runs
already is taken as it is. Its last artifact is then opened beside the original in PyTorch (float32) and beside the
original quantized to int8 by OpenVINO's own nncf, with the recipe's calibration rows. In each round every one of them
runs the same batch of tokens drawn at random, of full length, in an order drawn anew; speed is the geometric mean, over
batches of 1 and of 32, of the medians of the rounds' ratios. Size is against the original checkpoint's.
"""

import argparse
import json
import os
import statistics
import tempfile
from pathlib import Path

import bench_runtimes
import numpy as np

TORCH, INT8 = "torch float32", "openvino int8 alone"


def asked() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("recipes", type=Path, nargs="+")
    parser.add_argument("--set", action="append", default=[], dest="overrides")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--length", type=int, default=128)
    parser.add_argument("--seconds", type=float, default=20, help="about how long each batch size is timed")
    parser.add_argument("--runs", type=Path, default=Path("runs") / "bench")
    parser.add_argument("--out", type=Path)
    return parser.parse_args()


def applied(given):
    """Apply every recipe with every seed: (recipe name, seed, folder, report)."""
    import compressit
    from compressit import report

    for recipe in given.recipes:
        for seed in given.seeds:
            folder = given.runs / f"{recipe.stem}-{seed}"
            overrides = (*given.overrides, f"seed={seed}")
            if not folder.exists():
                compressit.apply(recipe, folder, overrides=overrides, waterfall=False)
            yield recipe.stem, seed, folder, report.read(folder)


def alone(written, original, place):
    """Quantize the original to int8 by nncf, with the recipe's calibration rows."""
    from compressit import data, exports

    spec, labels = written.recipe.dataset, original.module.config.id2label
    rows = data.rows(spec, spec.calibration, original.task, labels, written.base, labelled=False)
    examples = [batch for _, batch in data.batches(rows.select(range(40)), original, 8)]
    config = exports.load("openvino").Config(export="openvino", weights="int8")
    exports.load("openvino").run(original, config, place, examples, lambda count: data.singles(rows, original, count))


def drawn(names, tokens, size, length, draw):
    """Draw a batch of full length out of the first so many tokens."""
    ids = draw.integers(0, tokens, (size, length))
    whole = {"input_ids": ids, "attention_mask": np.ones_like(ids), "token_type_ids": np.zeros_like(ids)}
    return {name: whole[name] for name in names}


def main() -> None:
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    given = asked()
    import transformers

    from compressit import model, recipe, runtimes, tasks
    from compressit.progress import Silent
    from compressit.report.bounds import paired_median_ratio
    from compressit.runner.fetching import fetched

    transformers.utils.logging.set_verbosity_error()
    transformers.utils.logging.disable_progress_bar()
    runs = list(applied(given))
    written = recipe.load(given.recipes[0], tuple(given.overrides))
    task = written.recipe.task
    source = fetched(written.recipe.model.path, written.recipe.model.revision, False, Silent())
    original = model.load(source, task)
    with tempfile.TemporaryDirectory() as place:
        alone(written, original, Path(place))
        opened = {TORCH: (Path(original.source), "torch"), INT8: (Path(place), "openvino")}
        for name, seed, folder, found in runs:
            last = found.artifacts[-1]
            opened[f"{name}, seed {seed}"] = (folder / last.path, last.runtime)
        sessions = {name: runtimes.load(runtime).open(at, task, "cpu") for name, (at, runtime) in opened.items()}
        configs = [folder / "checkpoint" / "config.json" for _, _, folder, _ in runs]
        tokens = min(json.loads(config.read_text())["vocab_size"] for config in configs)
        names, draw = original.processor.model_input_names, np.random.default_rng(0)
        took = {}
        for size in bench_runtimes.SIZES:
            batches = iter(lambda size=size: drawn(names, tokens, size, given.length, draw), None)
            took[size] = bench_runtimes.timed(sessions, batches, given.seconds)["latency"]
    quality = tasks.load(task).METRICS[0]
    records = []
    for name, seed, _, found in runs:
        key, last = f"{name}, seed {seed}", found.artifacts[-1]
        reading = next(each for each in last.readings if each.metric == quality)
        gains = {
            other: statistics.geometric_mean(paired_median_ratio(took[size][other], took[size][key]) for size in took)
            for other in (TORCH, INT8)
        }
        records.append(
            {
                "recipe": key,
                quality: reading.value,
                "difference": reading.value - reading.baseline,
                "verdicts": ", ".join(f"{each.metric} {each.outcome}" for each in found.verdicts),
                "times smaller": found.original.bytes / last.bytes,
                **{f"times {other}": gain for other, gain in gains.items()},
            }
        )
    print("\n| " + " | ".join(records[0]) + " |\n|" + "---|" * len(records[0]))
    for record in records:
        cells = (each if isinstance(each, str) else f"{each:.4g}" for each in record.values())
        print("| " + " | ".join(cells) + " |")
    print(f"original: {quality} {reading.baseline:.4g}")
    print("rounds: " + ", ".join(f"{len(took[size][TORCH])} at batch {size}" for size in took))
    if given.out:
        given.out.write_text(json.dumps(records, indent=1))


if __name__ == "__main__":
    main()
