"""What makes a step's checkpoint what it is."""

from __future__ import annotations

import hashlib
import importlib.metadata
import json
import platform
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from types import ModuleType
from typing import Any

from compressit.cache import code
from compressit.steps import Need, StepConfig

FORMAT = 1
LIBRARIES = ("torch", "transformers", "tokenizers", "accelerate", "datasets", "numpy", "scipy", "compressed-tensors")
"""Those whose arithmetic or reading a checkpoint may depend on."""
SPLITS = {"calibration": Need.CALIBRATION, "train": Need.TRAINING}

Made = Mapping[str, Any]
"""All that made a checkpoint, by field."""


@dataclass(frozen=True)
class Seen:
    """What all steps of a run see.

    Attributes:
        source: SHA-256 of the model that the run began from.
        splits: SHA-256 of the rows of each split, by its use; None for one that isn't known yet.
        content: Gives the SHA-256 of the model behind an id, folder or demo name; None for one that isn't here yet.
        device: Its class, such as `cuda NVIDIA H100`; None where that isn't known yet.
    """

    source: str | None
    splits: Mapping[str, str | None]
    content: Callable[[str], str | None]
    task: str
    fields: Mapping[str, str | int]
    max_length: int | None
    seed: int
    device: str | None


def chain(steps: Sequence[tuple[StepConfig, ModuleType]], seen: Seen) -> list[Made]:
    """Say of each step what makes its checkpoint, the steps before it included."""
    made: list[Made] = []
    for config, module in steps:
        before = {"model": seen.source} if not made else {"after": key(made[-1])}
        made.append(before | _of(config, module, seen))
    return made


def key(made: Made) -> str:
    """Give the name that a checkpoint is kept under."""
    return hashlib.sha256(json.dumps(made, sort_keys=True).encode()).hexdigest()


def _of(config: StepConfig, module: ModuleType, seen: Seen) -> dict[str, Any]:
    said = config.model_dump(mode="json", exclude=set(config.refers_to))
    read = {use: seen.splits.get(use) for use, need in SPLITS.items() if need in config.looks_at()}
    return {
        "format": FORMAT,
        "step": config.step,
        "code": code.version(module),
        "config": said,
        "models": [seen.content(path) for path in config.models()],
        "data": {use: digest for use, digest in read.items() if use in seen.splits},
        "task": seen.task,
        "fields": dict(seen.fields) if read else {},
        "max_length": seen.max_length if read else None,
        "seed": seen.seed,
        "device": seen.device,
        "versions": _versions(),
    }


def _versions() -> dict[str, str]:
    found = {"python": ".".join(platform.python_version_tuple()[:2])}
    for name in LIBRARIES:
        try:
            found[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            continue
    return found
