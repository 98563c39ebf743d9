"""What steps cost a language model on held-out text, alone and one after the other; by seed.

    python tests/benchmarks/bench_steps_lm.py --model FOLDER --calibration FILE.txt --heldout FILE.txt
        [--windows 64] [--heldout-windows 256] [--length 512] [--group-size 128] [--seeds 0 1 2] [--only NAME ...]
        [--training-windows 512] [--rate 1e-3]

A seed draws the windows of the calibration text, and those that are trained on, where a step trains: once over, by a
teacher alone. Held-out windows are the text's first. Perplexities are of the model in memory, which computes as the
saved one does; `ratio` is to the original's, `rise` the mean loss over it in nats.
"""

import argparse
import math
import random
import statistics
import tempfile
from pathlib import Path

import datasets
import torch
from bench_structured import quiet
from bench_structured_lm import TASK, loss, texts

from compressit import model
from compressit.progress import Silent
from compressit.steps import StepContext, load

HALF = {"sparsity": 0.5}
INT8 = ("quantize_rtn", {"bits": 8, "activations": "int8"})


def textbook_svd(found: model.Model, sparsity: float) -> None:
    """Put in the place of each matrix the product of two thin ones that is nearest to its weights."""
    for name in found.matrices():
        weight_OI = found.module.get_submodule(name).weight.data
        outputs, inputs = weight_OI.shape
        rank = int((1 - sparsity) * outputs * inputs / (outputs + inputs))
        left_OK, values_K, right_KI = torch.linalg.svd(weight_OI.double(), full_matrices=False)
        weight_OI.copy_((left_OK[:, :rank] * values_K[:rank]) @ right_KI[:rank])


RIVALS = {"textbook_svd": textbook_svd}
"""What no step of ours does."""


def ways(group_size: int, rate: float) -> dict[str, list[tuple[str, dict]]]:
    """Name the lists of steps that are compared."""
    found = {"W8A8": [INT8]}
    for alpha in (0.25, 0.5, 0.75, 0.85):
        found[f"smooth {alpha}, W8A8"] = [("smooth", {"alpha": alpha}), INT8]
    static = ("quantize_rtn", {"bits": 8, "activations": "int8", "scales": "static"})
    found |= {"W8A8 static": [static], "smooth 0.5, W8A8 static": [("smooth", {}), static]}
    for kind, more in (("fp8", {}), ("fp8", {"activations": "fp8"}), ("nvfp4", {}), ("mxfp4", {})):
        name = f"{kind}, inputs too" if more else kind
        found[name] = [("quantize_float", {"format": kind, **more})]
    found["fp8, inputs too, static"] = [("quantize_float", {"format": "fp8", "activations": "fp8", "scales": "static"})]
    found["smooth 0.5 into norms, W8A8"] = [("smooth", {"into": ("norms",)}), INT8]
    learned = {"alpha": 0.0, "temperature": 1.0, "batch_size": 4, "learning_rate": rate}
    for bits in (4, 3, 2):
        some = {"bits": bits, "group_size": group_size}
        found |= {
            f"{bits} bits, nearest": [("quantize_rtn", some)],
            f"{bits} bits, nearest, mse": [("quantize_rtn", {**some, "clip": "mse"})],
            f"{bits} bits, awq": [("quantize_awq", some)],
            f"{bits} bits, gptq": [("quantize_gptq", some)],
            f"{bits} bits, trained": [("quantize_qat", {**some, **learned})],
            **{
                f"{bits} bits, {name}, refit": [(step, some), ("refit", {})]
                for name, step in (("nearest", "quantize_rtn"), ("gptq", "quantize_gptq"), ("awq", "quantize_awq"))
            },
            f"{bits} bits, awq and gptq": [("quantize_awq", {**some, "rounding": "gptq"})],
        }
    for inputs in ("none", "int8", "int4"):
        step = ("quantize_rtn", {"bits": 4, "clip": "mse", "activations": inputs})
        name = "W4 by channel" + ("" if inputs == "none" else f", inputs {inputs}")
        neurons = ("smooth", {"into": ("neurons",)})
        found |= {name: [step], f"rotate, {name}": [("rotate", {}), step], f"smooth, {name}": [("smooth", {}), step]}
        found[f"rotate, smooth neurons, {name}"] = [("rotate", {}), neurons, step]
    found["rotate"] = [("rotate", {})]
    found["4 bits by channel, gptq"] = [("quantize_gptq", {})]
    found["rotate, 4 bits by channel, gptq"] = [("rotate", {}), ("quantize_gptq", {})]
    # In a Llama whose networks are three times as wide as it is, attentions hold a quarter of the weights, and so do
    # the matrices at the networks' ends: with 4 bits for a quarter and 3 for the rest all take as much.
    scales = 32 / group_size
    for step in ("quantize_rtn", "quantize_gptq", "quantize_awq"):
        some = {"bits": 3, "group_size": group_size}
        felt = {"average_bits": 3.25 + scales + 0.01, "group_size": group_size}
        found |= {
            f"3.25 bits, {step}, felt": [(step, felt)],
            f"3.25 bits, {step}, felt, of 3 and 4": [(step, {**felt, "widths": (3, 4)})],
            f"3.25 bits, {step}, attention 4": [(step, {**some, "rules": ({"layers": ("*self_attn*",), "bits": 4},)})],
            f"3.25 bits, {step}, down 4": [(step, {**some, "rules": ({"layers": ("*down_proj",), "bits": 4},)})],
        }
    found |= {
        "svd 20%, textbook": [("textbook_svd", {"sparsity": 0.2})],
        "svd 20%": [("factor_svd", {"sparsity": 0.2})],
        "svd 20%, measured": [("factor_svd", {"sparsity": 0.2, "spread": "measured"})],
        "svd 20%, plain": [("factor_svd", {"sparsity": 0.2, "whiten": False})],
        "magnitude 50%": [("prune_magnitude", HALF)],
        "magnitude 50%, refit": [("prune_magnitude", HALF), ("refit", {})],
        "wanda 50%": [("prune_wanda", HALF)],
        "wanda 50%, refit": [("prune_wanda", HALF), ("refit", {})],
        "wanda 50%, spread": [("prune_wanda", {**HALF, "spread": "measured"})],
        "wanda 50%, spread, refit": [("prune_wanda", {**HALF, "spread": "measured"}), ("refit", {})],
    }
    return found


def asked() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", type=Path, required=True)
    parser.add_argument("--calibration", type=Path, required=True)
    parser.add_argument("--heldout", type=Path, required=True)
    parser.add_argument("--windows", type=int, default=64)
    parser.add_argument("--heldout-windows", type=int, default=256)
    parser.add_argument("--training-windows", type=int, default=512)
    parser.add_argument("--rate", type=float, default=1e-3, help="learning rate")
    parser.add_argument("--length", type=int, default=512)
    parser.add_argument("--group-size", type=int, default=128)
    parser.add_argument("--seeds", nargs="*", type=int, default=[0, 1, 2])
    parser.add_argument(
        "--only", nargs="*", default=[""], help="parts of the names of what is run; all of a name: '=svd 20%%'"
    )
    return parser.parse_args()


def main() -> None:
    given = asked()
    quiet()
    original = model.load(given.model, TASK)
    heldout = torch.from_numpy(texts(given.heldout, original.processor, given.length)[0])[: given.heldout_windows]
    pool = texts(given.calibration, original.processor, given.length)[1]
    before = loss(original, heldout)
    print(f"original: perplexity {math.exp(before):.4f} over {heldout[:, 1:].numel():,} tokens")
    print("| steps | perplexity by seed | mean | ratio | rise |\n|---|---|---|---|---|", flush=True)

    def teacher(path):
        return model.load(given.model, TASK)

    for name, steps in ways(given.group_size, given.rate).items():
        if not any(part == f"={name}" or part in name for part in given.only):
            continue
        undrawn = not any(
            step not in RIVALS and load(step).Config(step=step, **fields).needs() for step, fields in steps
        )
        losses = []
        for seed in given.seeds[:1] if undrawn else given.seeds:
            rows, learned = (
                datasets.Dataset.from_dict({"text": random.Random(seed).sample(pool, count)})
                for count in (given.windows, given.training_windows)
            )
            found = model.load(given.model, TASK)
            with tempfile.TemporaryDirectory() as folder:
                for number, (step, fields) in enumerate(steps):
                    if step in RIVALS:
                        RIVALS[step](found, **fields)
                        continue
                    scratch = Path(folder) / str(number)
                    context = StepContext(learned, rows, teacher, "cpu", seed, Silent(), scratch, given.length)
                    load(step).run(found, load(step).Config(step=step, **fields), context)
            losses.append(loss(found, heldout))
        each, rise = ", ".join(f"{math.exp(one):.4f}" for one in losses), statistics.mean(losses) - before
        mean = math.exp(before + rise)
        print(f"| {name} | {each} | {mean:.4f} | {math.exp(rise):.4f} | {rise:.4f} |", flush=True)


if __name__ == "__main__":
    main()
