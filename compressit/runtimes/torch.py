"""Run a checkpoint on PyTorch, as transformers opens it."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any

from compressit import checkpoint, model, tasks
from compressit.model import mapped
from compressit.runtimes import Batch, Facts, Session

OPTIONAL = ("logits_to_keep",)
"""Inputs that make a model do less, where it takes them."""


def place(device: str) -> str:
    """Run where the user wants."""
    return device


def open(folder: Path, task: str, device: str, trust_remote_code: bool = False, scratch: Path | None = None) -> Session:
    """Open a checkpoint with transformers; what it says comes back as float32.

    With `scratch`, weights stay in their files, and what must be unpacked is laid out there: the same logits, slower.
    """
    from inspect import signature

    import torch

    if scratch is None:
        opened = model.load(folder, task, device=device, trust_remote_code=trust_remote_code)
    else:
        opened = mapped.load(folder, task, scratch, trust_remote_code=trust_remote_code)
    module = opened.module.to(device)
    if getattr(module.config, "use_cache", False):
        # Of one pass nothing need be kept; who generates asks for it.
        module.config.use_cache = False
    takes, ask = signature(module.forward).parameters, tasks.asker(task, opened.processor, folder)

    def run(batch: Batch) -> Any:
        with torch.inference_mode():
            known = {name: array for name, array in batch.items() if name in takes or name not in OPTIONAL}
            inputs = {name: torch.from_numpy(array).to(device) for name, array in known.items()}
            return ask(module, inputs)

    return run


def inspect(folder: Path) -> Facts:
    """Read the safetensors files."""
    dtypes: Counter[str] = Counter()
    nonzero = 0
    for stored in checkpoint.tensors(folder):
        dtypes[stored.kind] += stored.elements
        nonzero += stored.elements - int(stored.zero.sum())
    size = sum(file.stat().st_size for file in folder.glob("*.safetensors"))
    return Facts(size, dtypes.total(), nonzero, dict(dtypes))
