"""Run a checkpoint on PyTorch, as transformers opens it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from compressit import model
from compressit.runtimes import Batch, Facts, Session


def open(folder: Path, task: str, device: str) -> Session:
    """Open a checkpoint with transformers; logits come back as float32."""
    import torch

    module = model.load(folder, task, device=device).module

    def run(batch: Batch) -> Any:
        with torch.inference_mode():
            inputs = {name: torch.from_numpy(array).to(device) for name, array in batch.items()}
            return module(**inputs).logits.float().cpu().numpy()

    return run


def inspect(folder: Path) -> Facts:
    """Read the safetensors files."""
    from safetensors import safe_open

    total = parameters = nonzero = 0
    dtypes: dict[str, int] = {}
    for file in folder.glob("*.safetensors"):
        total += file.stat().st_size
        with safe_open(file, framework="pt") as tensors:
            for name in tensors.keys():
                tensor = tensors.get_tensor(name)
                parameters += tensor.numel()
                nonzero += int((tensor != 0).sum())
                kind = str(tensor.dtype).removeprefix("torch.")
                dtypes[kind] = dtypes.get(kind, 0) + tensor.numel()
    return Facts(total, parameters, nonzero, dtypes)
