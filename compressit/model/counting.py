"""Count what the blocks of a model that takes pictures multiply."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from compressit import anatomy, tasks
from compressit.model import fitting, opening

SIDE = 256
"""Of the blank picture that is shown, in pixels; the model's processor makes of it what it makes of any."""


def multiplications(folder: Path, task: str, *, trust_remote_code: bool = False) -> int:
    """Count those that the convolutions and matrices inside the blocks of a checkpoint make of one picture."""
    import torch
    import transformers

    auto_class = getattr(transformers, tasks.load(task).AUTO_CLASS)
    processor = opening.processor(folder, task, trust_remote_code=trust_remote_code)
    config = transformers.AutoConfig.from_pretrained(folder, trust_remote_code=trust_remote_code)
    opener = fitting.opener(auto_class, folder, trust_remote_code=trust_remote_code)
    with torch.device("meta"):
        module = opener.from_config(config) if opener is auto_class else opener(config)
    return sum(each(module.eval(), processor).values())


def each(module: Any, processor: Any) -> dict[str, int]:
    """Count those of each convolution and matrix inside the blocks, by name, in a pass of one blank picture."""
    import numpy as np
    import torch
    from PIL import Image
    from torch import nn

    found: dict[str, int] = {}

    def watch(name: str) -> Any:
        def count(part: Any, args: Any, made: torch.Tensor) -> None:
            found[name] = found.get(name, 0) + made.numel() * part.weight[0].numel()

        return count

    inside = tuple(f"{name}." for name, _ in anatomy.blocks(module))
    watched = [
        (name, part)
        for name, part in module.named_modules()
        if name.startswith(inside) and isinstance(part, nn.Linear | nn.Conv2d)
    ]
    pixels = np.asarray(processor([Image.new("RGB", (SIDE, SIDE))], return_tensors="np")["pixel_values"])
    hooks = [part.register_forward_hook(watch(name)) for name, part in watched]
    try:
        with torch.no_grad():
            like = next(module.parameters())
            module(pixel_values=torch.zeros(pixels.shape, dtype=like.dtype, device=like.device))
    finally:
        for hook in hooks:
            hook.remove()
    return found
