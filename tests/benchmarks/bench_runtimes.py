"""What each runtime and precision makes of one text classifier: a table of size, accuracy and latency, as saved.

    python tests/benchmarks/bench_runtimes.py --model FOLDER --data FOLDER [--calibration train.jsonl]
        [--evaluation validation.jsonl] [--text sentence] [--length 128] [--seconds 20] [--out FILE.json]

All files are made from the one checkpoint and opened side by side. In each round every one of them runs the same batch
of full length, in an order drawn anew; figures are medians, and what is compared is the median of the rounds' ratios,
as a geometric mean over the batch sizes: against torch in float32, and against OpenVINO's int8 by nncf. Beside latency
stands the processor time of all threads, which a neighbour on the machine leaves nearly as it is.
"""

import argparse
import json
import os
import random
import statistics
import tempfile
import time
from pathlib import Path

SIZES = (1, 32)
CLOCKS = {"latency": time.perf_counter, "processor": time.process_time}
TASK = "text-classification"
# Name, runtime, and the fields of the export; for torch, the type that the checkpoint is cast to.
KINDS = [
    ("torch float32", "torch", "float32"),
    ("torch bfloat16", "torch", "bfloat16"),
    ("onnxruntime float32", "onnx", {}),
    ("onnxruntime int8 dynamic", "onnx", {"weights": "int8"}),
    ("onnxruntime int8 static", "onnx", {"weights": "int8", "activations": "static"}),
    ("openvino float32", "openvino", {}),
    ("openvino bfloat16", "openvino", {"compute": "bfloat16"}),
    ("openvino int8", "openvino", {"weights": "int8"}),
    ("openvino int8, bfloat16", "openvino", {"weights": "int8", "compute": "bfloat16"}),
]
BASE, RIVAL = "torch float32", "openvino int8"


def asked() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", type=Path, required=True)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--calibration", default="train.jsonl")
    parser.add_argument("--evaluation", default="validation.jsonl")
    parser.add_argument("--text", default="sentence")
    parser.add_argument("--length", type=int, default=128)
    parser.add_argument("--seconds", type=float, default=20, help="about how long each batch size is timed")
    parser.add_argument("--out", type=Path)
    return parser.parse_args()


def made(original, rows, calibration, place):
    """Save the model in every kind; give each one's folder and the runtime that opens it."""
    import torch

    from compressit import data, exports, model

    examples = [batch for _, batch in data.batches(rows.select(range(40)), original, 8)]
    for name, form, fields in KINDS:
        folder = place / name.replace(" ", "-").replace(",", "")
        if form == "torch":
            found = model.load(Path(original.source), TASK)
            model.cast(found.module, getattr(torch, fields))
            found.save(folder)
            yield name, folder, "torch"
        else:
            folder.mkdir()
            export = exports.load(form)
            config = export.Config(export=form, **fields)
            export.run(original, config, folder, examples, lambda count: data.singles(calibration, original, count))
            yield name, folder, config.runtime


def said(session, original, rows):
    """Give the logits of all rows: (rows, classes)."""
    import numpy as np

    from compressit import data

    found = np.empty((len(rows), original.module.config.num_labels), np.float32)
    for places, batch in data.batches(rows, original, 32):
        found[places] = session({name: value.numpy() for name, value in batch.items() if name != "labels"})
    return found


def full(original, rows, size, length, draw):
    """Draw a batch of texts, each of so many tokens."""
    texts = [" ".join(draw.choices(rows["text"], k=length)) for _ in range(size)]
    batch = original.processor(texts, truncation=True, max_length=length, return_tensors="np")
    assert batch["input_ids"].shape == (size, length)
    return dict(batch)


def timed(sessions, batches, seconds):
    """Run every session on every batch, in turn; give by clock and name the seconds that each took: (rounds,)."""
    draw = random.Random(0)
    found = {clock: {name: [] for name in sessions} for clock in CLOCKS}
    begun, rounds = time.perf_counter(), -3
    while rounds < 11 or time.perf_counter() - begun < seconds:
        batch = next(batches)
        for name in draw.sample(sorted(sessions), len(sessions)):
            start = {clock: read() for clock, read in CLOCKS.items()}
            sessions[name](batch)
            for clock, read in CLOCKS.items() if rounds >= 0 else ():
                found[clock][name].append(read() - start[clock])
        rounds += 1
    return found


def main() -> None:
    # Threads that spin would slow the runtime that is timed next.
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    given = asked()
    import datasets
    import transformers

    from compressit import data, model, runtimes
    from compressit.data import DatasetSpec
    from compressit.report.bounds import paired_median_ratio

    transformers.utils.logging.set_verbosity_error()
    transformers.utils.logging.disable_progress_bar()
    datasets.disable_progress_bars()
    original = model.load(given.model, TASK)
    spec = DatasetSpec(path=str(given.data), evaluation=given.evaluation, columns={"text": given.text})
    rows, calibration = (
        data.rows(spec, split, TASK, original.module.config.id2label, Path())
        for split in (given.evaluation, given.calibration)
    )
    with tempfile.TemporaryDirectory() as place:
        kinds = {name: (folder, runtime) for name, folder, runtime in made(original, rows, calibration, Path(place))}
        sessions = {name: runtimes.load(runtime).open(folder, TASK, "cpu") for name, (folder, runtime) in kinds.items()}
        sizes = {name: runtimes.load(runtime).inspect(folder).bytes for name, (folder, runtime) in kinds.items()}
        logits = {name: said(session, original, rows) for name, session in sessions.items()}
        draw = random.Random(0)
        took = {
            size: timed(
                sessions, iter(lambda size=size: full(original, rows, size, given.length, draw), None), given.seconds
            )
            for size in SIZES
        }
    records = []
    for name in kinds:
        chosen = logits[name].argmax(-1)
        record = {
            "kind": name,
            "MB": sizes[name] / 1e6,
            "accuracy": float((chosen == rows["label"]).mean()),
            "agreement": float((chosen == logits[BASE].argmax(-1)).mean()),
        }
        for clock in CLOCKS:
            for size in SIZES:
                record[f"{clock} at {size}, ms"] = 1e3 * statistics.median(took[size][clock][name])
            for other in (BASE, RIVAL):
                ratios = [paired_median_ratio(took[size][clock][other], took[size][clock][name]) for size in SIZES]
                record[f"{clock}, x {other}"] = statistics.geometric_mean(ratios)
        records.append(record)
    print("\n| " + " | ".join(records[0]) + " |\n|" + "---|" * len(records[0]))
    for record in records:
        first, *rest = record.values()
        print("| " + " | ".join([first, *(f"{each:.4g}" for each in rest)]) + " |")
    print(
        f"{len(rows)} rows; rounds: "
        + ", ".join(f"{len(took[size]['latency'][BASE])} at batch {size}" for size in SIZES)
    )
    if given.out:
        given.out.write_text(json.dumps(records, indent=1))


if __name__ == "__main__":
    main()
