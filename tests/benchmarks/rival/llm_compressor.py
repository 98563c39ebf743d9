"""One method of llm-compressor on the CPU, with its own defaults, calibrated on exactly the ids of a file.

    python llm_compressor.py --model FOLDER --ids FILE.npy --method gptq --bits 4 --out FOLDER
    python llm_compressor.py --model FOLDER --ids FILE.npy --method sparsegpt --pattern 2:4 --out FOLDER

Runs in a virtual environment of its own (README.md) and prints one JSON line.

`magnitude` goes through `oneshot` like the rest, and llm-compressor 0.14 then leaves every weight as it was: the
modifier listens to a trainer's events only. `magnitude-events` sends it those of one training step.
"""

import argparse
import json
import os
import resource
import sys
import time
from pathlib import Path

# Before anything that starts threads is imported.
parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
parser.add_argument("--model", required=True)
parser.add_argument("--ids", type=Path, required=True, help="int64 array, windows x tokens")
parser.add_argument("--samples", type=int, help="use the first ones only")
parser.add_argument(
    "--method", required=True, choices=["rtn", "gptq", "sparsegpt", "wanda", "magnitude", "magnitude-events"]
)
parser.add_argument("--bits", type=int, default=4)
parser.add_argument("--group-size", type=int, default=128)
parser.add_argument("--sparsity", type=float, default=0.5)
parser.add_argument("--pattern", help="N:M instead of unstructured zeros, such as 2:4")
parser.add_argument("--out", type=Path, required=True)
parser.add_argument("--threads", type=int, default=2)
asked = parser.parse_args()
os.environ |= {"OMP_NUM_THREADS": str(asked.threads), "HF_HUB_OFFLINE": "1", "CUDA_VISIBLE_DEVICES": ""}

import numpy as np
import torch
from datasets import Dataset
from llmcompressor import oneshot
from llmcompressor.core import LifecycleCallbacks, active_session
from llmcompressor.modifiers.gptq import GPTQModifier
from llmcompressor.modifiers.pruning import (
    MagnitudePruningModifier,
    SparseGPTModifier,
    WandaPruningModifier,
)
from llmcompressor.modifiers.quantization import QuantizationModifier
from loguru import logger
from transformers import AutoModelForCausalLM, AutoTokenizer

# Pruning modifiers call the head `lm_head.`, with a dot: a plain `lm_head` in `ignore` doesn't match it and prunes it.
HEAD = "re:.*lm_head"


def peak_mib() -> float:
    return round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024, 1)


def modifier():
    """What is asked for, in llm-compressor's words; everything that isn't named here keeps its default."""
    if asked.method in ("rtn", "gptq"):
        weights = {
            "num_bits": asked.bits,
            "type": "int",
            "symmetric": True,
            "strategy": "group",
            "group_size": asked.group_size,
        }
        made = QuantizationModifier if asked.method == "rtn" else GPTQModifier
        return made(config_groups={"group_0": {"targets": ["Linear"], "weights": weights}}, ignore=[HEAD])
    if asked.method.startswith("magnitude"):
        return MagnitudePruningModifier(
            targets=r"re:.*layers\..*proj$",
            init_sparsity=asked.sparsity,
            final_sparsity=asked.sparsity,
            mask_structure=asked.pattern or "unstructured",
            start=0,
            end=1,
        )
    made = SparseGPTModifier if asked.method == "sparsegpt" else WandaPruningModifier
    return made(sparsity=asked.sparsity, mask_structure=asked.pattern or "0:0", ignore=[HEAD])


def one_training_step(model, recipe) -> None:
    session = active_session()
    session.reset()
    session.initialize(model=model, recipe=recipe, start=0)
    LifecycleCallbacks.batch_start()
    LifecycleCallbacks.optim_pre_step()
    LifecycleCallbacks.optim_post_step()
    session.finalize()


def main() -> None:
    imported = peak_mib()
    torch.set_num_threads(asked.threads)
    logger.remove()
    logger.add(sys.stderr, level="WARNING")
    windows = np.load(asked.ids)[: asked.samples]
    model = AutoModelForCausalLM.from_pretrained(asked.model, dtype="auto")
    tokenizer = AutoTokenizer.from_pretrained(asked.model)
    recipe = [modifier()]
    # Data-free methods ignore a data set, but would pay for collating it.
    calibration = {}
    if asked.method in ("gptq", "sparsegpt", "wanda"):
        calibration = {
            "dataset": Dataset.from_dict({"input_ids": windows.tolist()}),
            "num_calibration_samples": len(windows),
            "max_seq_length": windows.shape[1],
            "shuffle_calibration_samples": False,
        }
    loaded = peak_mib()

    begun = time.perf_counter()
    if asked.method == "magnitude-events":
        one_training_step(model, recipe)
    else:
        oneshot(model=model, processor=tokenizer, recipe=recipe, **calibration)
    seconds = time.perf_counter() - begun
    compressed = peak_mib()

    begun = time.perf_counter()
    model.save_pretrained(asked.out)
    tokenizer.save_pretrained(asked.out)
    saving = time.perf_counter() - begun

    quantizes = asked.method in ("rtn", "gptq")
    print(
        json.dumps(
            {
                "model": asked.model,
                "method": asked.method,
                "bits": asked.bits if quantizes else None,
                "group_size": asked.group_size if quantizes else None,
                "sparsity": None if quantizes or asked.pattern else asked.sparsity,
                "pattern": asked.pattern,
                "samples": len(windows) if calibration else 0,
                "threads": asked.threads,
                "seconds": round(seconds, 3),
                "save_seconds": round(saving, 3),
                "peak_mib": peak_mib(),
                "peak_mib_imported": imported,
                "peak_mib_loaded": loaded,
                "peak_mib_compressed": compressed,
                "size_mib": round(sum(file.stat().st_size for file in asked.out.iterdir()) / 2**20, 2),
            }
        )
    )


if __name__ == "__main__":
    main()
