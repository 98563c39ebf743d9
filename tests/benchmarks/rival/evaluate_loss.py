"""Judge saved folders, whichever tool wrote them, by the same code: loss on held-out ids, and the zeros really there.

    python evaluate_loss.py --ids FILE.npy DENSE [COMPRESSED ...]

Each folder opens with plain transformers in float32. One JSON line each: mean negative log-likelihood of every token of
a window but its first; how far that lies above the first folder's on the same windows, with the standard error over
windows; the share of zeros in the linear layers of the blocks, and whether all of them hold two zeros in every four.
"""

import argparse
import json
import os
from pathlib import Path

os.environ["HF_HUB_OFFLINE"] = "1"

import numpy as np
import torch
from transformers import AutoModelForCausalLM


def opened(folder: str):
    quantized = json.loads((Path(folder) / "config.json").read_text()).get("quantization_config")
    extra = {}
    if quantized:
        from transformers import CompressedTensorsConfig

        extra["quantization_config"] = CompressedTensorsConfig(dequantize=True)
    return AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32, **extra).eval()


@torch.no_grad()
def window_losses(model, windows: torch.Tensor, batch: int) -> np.ndarray:
    """Mean loss of each window."""
    found = []
    for ids in windows.split(batch):
        logits = model(input_ids=ids, use_cache=False).logits[:, :-1].float()
        losses = torch.nn.functional.cross_entropy(logits.transpose(1, 2), ids[:, 1:], reduction="none")
        found.append(losses.double().mean(1))
    return torch.cat(found).numpy()


def zeros(model) -> tuple[float, bool]:
    """The share of zeros in all linear layers but the head, and whether every four inputs hold at least two."""
    head = model.get_output_embeddings()
    weights = [layer.weight for layer in model.modules() if isinstance(layer, torch.nn.Linear) and layer is not head]
    share = sum(int((weight == 0).sum()) for weight in weights) / sum(weight.numel() for weight in weights)
    fours = all(
        weight.shape[1] % 4 == 0 and bool(((weight.reshape(-1, 4) == 0).sum(1) >= 2).all()) for weight in weights
    )
    return share, fours


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folders", nargs="+", metavar="FOLDER")
    parser.add_argument("--ids", required=True, help="int64 array, windows x tokens")
    parser.add_argument("--batch", type=int, default=8)
    parser.add_argument("--threads", type=int, default=2)
    asked = parser.parse_args()
    torch.set_num_threads(asked.threads)
    windows = torch.from_numpy(np.load(asked.ids))
    reference = None
    for folder in asked.folders:
        model = opened(folder)
        losses = window_losses(model, windows, asked.batch)
        reference = losses if reference is None else reference
        above = losses - reference
        share, fours = zeros(model)
        found = {
            "folder": folder,
            "loss": round(losses.mean(), 6),
            "increase": round(above.mean(), 6),
            "increase_error": round(above.std(ddof=1) / len(above) ** 0.5, 6),
            "tokens": windows.shape[0] * (windows.shape[1] - 1),
            "sparsity": round(share, 5),
            "two_four": fours,
        }
        print(json.dumps(found), flush=True)


if __name__ == "__main__":
    main()
