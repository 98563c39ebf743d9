"""Count what the blocks of a model that takes pictures multiply, by a pass that computes nothing."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from compressit import anatomy, tasks
from compressit.model import fitting, opening

SIDE = 256
"""Of the blank picture that is shown, in pixels; the model's processor makes of it what it makes of any."""


def multiplications(folder: Path, task: str, *, trust_remote_code: bool = False) -> int:
    """Count those that the convolutions and matrices inside the blocks of a checkpoint make of one picture."""
    import numpy as np
    import torch
    import transformers
    from PIL import Image
    from torch import nn

    auto_class = getattr(transformers, tasks.load(task).AUTO_CLASS)
    processor = opening.processor(folder, task, trust_remote_code=trust_remote_code)
    pixels = np.asarray(processor([Image.new("RGB", (SIDE, SIDE))], return_tensors="np")["pixel_values"])
    config = transformers.AutoConfig.from_pretrained(folder, trust_remote_code=trust_remote_code)
    opener = fitting.opener(auto_class, folder, trust_remote_code=trust_remote_code)
    total = 0

    def count(part: Any, args: Any, made: torch.Tensor) -> None:
        nonlocal total
        total += made.numel() * part.weight[0].numel()

    with torch.device("meta"), torch.inference_mode():
        module = opener.from_config(config) if opener is auto_class else opener(config)
        for _, block in anatomy.blocks(module):
            for part in block.modules():
                if isinstance(part, nn.Linear | nn.Conv2d):
                    part.register_forward_hook(count)
        module.eval()(pixel_values=torch.empty(pixels.shape))
    return total
