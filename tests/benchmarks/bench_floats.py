"""Error of weights as floats of 4 bits: ours, and that of compressed-tensors' own scales, read back by its own reader.

python tests/benchmarks/bench_floats.py --model FOLDER
"""

import argparse
from pathlib import Path

import torch
from bench_structured import quiet
from bench_structured_lm import TASK
from compressed_tensors.compressors import BaseCompressor
from compressed_tensors.quantization import preset_name_to_scheme
from compressed_tensors.quantization.utils import calculate_qparams, generate_gparam

from compressit import model
from compressit.algorithms import floats

FORMATS = {"NVFP4A16": "nvfp4-pack-quantized", "MXFP4A16": "mxfp4-pack-quantized"}


def theirs(weight: torch.Tensor, preset: str) -> torch.Tensor:
    """Scale by the largest weight of each group, as an observer of theirs does."""
    scheme = preset_name_to_scheme(preset, ["Linear"])
    over = generate_gparam(weight.min(), weight.max()) if preset == "NVFP4A16" else None
    groups = weight.unflatten(-1, (-1, scheme.weights.group_size))
    scale, _ = calculate_qparams(groups.amin(-1), groups.amax(-1), scheme.weights, global_scale=over)
    state = {"weight": weight, "weight_scale": scale} | ({} if over is None else {"weight_global_scale": over})
    compressor = BaseCompressor.get_value_from_registry(FORMATS[preset])
    return compressor.decompress(compressor.compress(state, scheme), scheme)["weight"].float()


def ours(weight: torch.Tensor, preset: str) -> torch.Tensor:
    if preset == "NVFP4A16":
        return floats.read_back(*floats.to_nvfp4(weight)).float()
    return floats.read_back(*floats.to_mxfp4(weight, weight.dtype), None).float()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", type=Path, required=True)
    quiet()
    found = model.load(parser.parse_args().model, TASK)
    weights = [found.module.get_submodule(name).weight.detach().float() for name in found.matrices()]
    power = sum(float(weight.square().sum()) for weight in weights)
    print("| format | ours | compressed-tensors | ratio | layers with more |\n|---|---|---|---|---|")
    for preset in FORMATS:
        pairs = [[float((make(w, preset) - w).square().sum()) for make in (ours, theirs)] for w in weights]
        mine, other = (sum(column) / power for column in zip(*pairs, strict=True))
        worse = sum(one > two for one, two in pairs)
        print(f"| {preset} | {mine:.6f} | {other:.6f} | {mine / other:.4f} | {worse} of {len(pairs)} |")


if __name__ == "__main__":
    main()
