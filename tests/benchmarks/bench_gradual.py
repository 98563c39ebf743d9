"""What weights zeroed little by little keep, next to the same zeroed at once and trained as long: a table.

    python tests/benchmarks/bench_gradual.py --model FOLDER --data FOLDER [--train train.jsonl] [--test test.jsonl]
        [--text sentence] [--sparsity 0.8 0.9] [--rows 6920] [--epochs 1] [--rates 1e-4] [--seeds 0] [--only NAME ...]

Every way is distilled from the model itself by as many updates of the same size, at each learning rate. A seed draws
the training rows and shuffles them; the test rows are used for nothing else. Accuracy is that of the saved checkpoint.
"""

import argparse
import random
import tempfile
import time
from dataclasses import replace
from pathlib import Path

import torch
import transformers
from bench_structured import TASK, accuracy, quiet, read

from compressit import model
from compressit.progress import Silent
from compressit.steps import StepContext, load

GRADUALLY = {
    f"{criterion}, {scope}": {"criterion": criterion, "scope": scope}
    for criterion in ("magnitude", "movement")
    for scope in ("layer", "global")
}


def ways(sparsity: float, learned: dict) -> dict[str, list[tuple[str, dict]]]:
    """Name the lists of steps that are compared."""
    once = {
        f"at once, {scope}": [("prune_magnitude", {"sparsity": sparsity, "scope": scope}), ("distill", learned)]
        for scope in ("layer", "global")
    }
    return once | {
        name: [("prune_gradually", {"sparsity": sparsity, **fields, **learned})] for name, fields in GRADUALLY.items()
    }


def asked() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", type=Path, required=True)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--train", default="train.jsonl")
    parser.add_argument("--test", default="test.jsonl")
    parser.add_argument("--text", default="sentence")
    parser.add_argument("--sparsity", nargs="*", type=float, default=[0.8, 0.9])
    parser.add_argument("--rows", type=int, default=6920)
    parser.add_argument("--epochs", type=float, default=1)
    parser.add_argument("--rates", nargs="*", type=float, default=[1e-4])
    parser.add_argument("--end", type=float, default=0.7)
    parser.add_argument("--seeds", nargs="*", type=int, default=[0])
    parser.add_argument("--only", nargs="*", default=[""], help="parts of the names of what is run")
    return parser.parse_args()


def main() -> None:
    given = asked()
    quiet()
    pool, test = (read(given.data / name, given.text) for name in (given.train, given.test))
    original = model.load(given.model, TASK)
    print(f"original: accuracy {accuracy(original, test):.4f} on {len(test)} rows")
    print("| zeros | way | rate | seed | updates | accuracy | seconds |\n|---|---|---|---|---|---|---|", flush=True)
    for sparsity in given.sparsity:
        for rate in given.rates:
            learned = {"epochs": given.epochs, "learning_rate": rate}
            for name, steps in ways(sparsity, learned).items():
                if not any(part in name for part in given.only):
                    continue
                for seed in given.seeds:
                    rows = pool.select(random.Random(seed).sample(range(len(pool)), min(given.rows, len(pool))))
                    with tempfile.TemporaryDirectory() as folder:
                        context = StepContext(
                            rows, None, lambda path: original, "cpu", seed, Silent(), Path(folder) / "scratch"
                        )
                        found, begun = model.load(given.model, TASK), time.perf_counter()
                        for step, fields in steps:
                            transformers.set_seed(seed)
                            if step == "prune_gradually":
                                fields = {"end": given.end, **fields}
                            config = load(step).Config(step=step, **fields)
                            notes = load(step).run(found, config, replace(context, scratch=context.scratch / step))
                        took = time.perf_counter() - begun
                        found.save(Path(folder) / "saved")
                        score = accuracy(model.load(Path(folder) / "saved", TASK), test)
                    said = f"| {sparsity:.0%} | {name} | {rate:g} | {seed} | {notes['updates']} | {score:.4f} |"
                    print(f"{said} {took:.0f} |", flush=True)


if __name__ == "__main__":
    torch.set_num_threads(1)
    main()
