"""Which digit is it? Scans of handwriting, 8 x 8 pixels, that ship inside scikit-learn."""

from __future__ import annotations

import functools
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from datasets import Dataset

TASK = "image-classification"
COLUMNS = {"image": "image", "label": "label"}
TRAINING = {"epochs": 24, "batch_size": 32, "learning_rate": 1e-3, "warmup": 0.1}


@functools.cache
def splits() -> dict[str, Dataset]:
    """Read the scans; every third one is for the test."""
    import datasets
    import numpy as np
    from sklearn.datasets import load_digits

    found = load_digits()
    # Sixteen levels of grey, stretched over a byte.
    pixels = np.clip(found.images * 16, 0, 255).astype(np.uint8)
    labels = datasets.ClassLabel(names=[str(digit) for digit in range(10)])
    features = datasets.Features({"image": datasets.Image(), "label": labels})
    places = np.arange(len(pixels))
    rows = {"train": places[places % 3 != 0], "test": places[places % 3 == 0]}
    return {
        name: datasets.Dataset.from_dict(
            {"image": list(pixels[which]), "label": found.target[which].tolist()}, features=features
        )
        for name, which in rows.items()
    }


def untrained(train: Dataset, seed: int) -> tuple[Any, Any]:
    """Make a ViT of six blocks that sees patches of 2 x 2 pixels."""
    import torch
    from transformers import ViTConfig, ViTForImageClassification
    from transformers.models.vit.image_processing_pil_vit import ViTImageProcessorPil

    torch.manual_seed(seed)
    names = train.features["label"].names
    config = ViTConfig(
        image_size=8,
        patch_size=2,
        hidden_size=96,
        num_hidden_layers=6,
        num_attention_heads=4,
        intermediate_size=192,
        id2label=dict(enumerate(names)),
        label2id={name: index for index, name in enumerate(names)},
    )
    return ViTForImageClassification(config), ViTImageProcessorPil(size={"height": 8, "width": 8})
