"""Give each image one label.

Roles: `image` (an image column, or paths of image files) and `label`.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from compressit.outputs import Predictions

if TYPE_CHECKING:
    from datasets import Dataset

AUTO_CLASS = "AutoModelForImageClassification"
PROCESSOR_CLASS = "AutoImageProcessor"
ROLES = {"image": True, "label": True}
OUTPUT = Predictions
METRICS = ("accuracy", "agreement", "latency", "throughput", "size")


def prepare(rows: Dataset, processor: Any, max_length: int | None) -> Dataset:
    """Resize and normalise each image as the model's processor says, when it is read."""
    import numpy as np

    def process(batch: dict[str, list[Any]]) -> dict[str, Any]:
        images = [image.convert("RGB") for image in batch["image"]]
        pixels = processor(images, return_tensors="np")["pixel_values"]
        return {"pixel_values": list(np.asarray(pixels, dtype=np.float32)), "labels": batch["label"]}

    return rows.with_transform(process)


def collate(processor: Any) -> Callable[[list[dict[str, Any]]], dict[str, Any]]:
    """Stack a list of examples."""
    import numpy as np
    import torch

    def stack(examples: list[dict[str, Any]]) -> dict[str, Any]:
        pixels = np.stack([example["pixel_values"] for example in examples])
        return {
            "pixel_values": torch.from_numpy(pixels),
            "labels": torch.tensor([example["labels"] for example in examples]),
        }

    return stack
