"""What makes a step's checkpoint, or an export that is kept, what it is."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping, Sequence
from types import ModuleType
from typing import Any

from compressit import provenance, ranks
from compressit.cache import code
from compressit.data import DatasetSpec
from compressit.plan import Plan
from compressit.steps import Need

FORMAT = 1
LIBRARIES = (
    "torch", "transformers", "tokenizers", "accelerate", "datasets", "numpy", "scipy", "compressed-tensors", "peft",
)  # fmt: skip
"""Those whose arithmetic or reading a checkpoint may depend on."""
EXPORTING = ("onnx", "onnx-ir", "onnxruntime", "onnxscript", "openvino", "nncf", "gguf", "executorch", "torchao")
"""Those that an export may depend on besides."""
SPLITS = {"calibration": Need.CALIBRATION, "train": Need.TRAINING}

Made = Mapping[str, Any]
"""All that made a checkpoint, by field."""


Content = Callable[[str], str | None]
"""Gives the SHA-256 of the model behind an id, folder or demo name; None for one that isn't here yet."""


def chain(
    plan: Plan, *, source: str | None, splits: Mapping[str, str | None], content: Content, device: str | None
) -> list[Made]:
    """Say of each step what makes its checkpoint, the steps before it included.

    Args:
        plan: With the steps.
        source: SHA-256 of the model that the run begins from. None, as in the following, for what isn't known yet.
        splits: SHA-256 of the rows of each split that steps are given, by its use.
        content: Of other models.
        device: Its class, such as `cuda NVIDIA H100`.
    """
    spec, versions = plan.written.recipe.dataset, _versions()
    made: list[Made] = []
    for step in plan.steps:
        config = step.config
        read = {use: splits[use] for use, need in SPLITS.items() if need in config.looks_at() and use in splits}
        before = {"model": source} if not made else {"after": key(made[-1])}
        made.append(
            before
            | {
                "format": FORMAT,
                "step": config.step,
                "code": code.version(step.module),
                "config": config.model_dump(mode="json", exclude=set(config.refers_to)),
                "models": [content(path) for path in config.models()],
                "data": read,
                "task": plan.written.recipe.task,
                "fields": _fields(spec) if spec and read else {},
                "max_length": spec.max_length if spec and read else None,
                "seed": plan.written.recipe.seed,
                "device": device,
                "versions": versions,
            }
            # Their batches add up to one, so that their number is a setting like batch_size.
            | ({"processes": ranks.count()} if config.together and ranks.count() > 1 else {})
        )
    return made


def exported(name: str, module: ModuleType, source: str, task: str) -> Made:
    """Say what makes the uncompressed export of a model, as of a step without settings.

    Args:
        name: Of the format.
        module: That writes it.
        source: SHA-256 of the model.
        task: The model's.
    """
    return {
        "model": source,
        "format": FORMAT,
        "step": f"export {name}",
        "code": code.version(module),
        "config": {},
        "models": [],
        "data": {},
        "task": task,
        "fields": {},
        "max_length": None,
        "seed": None,
        "device": None,
        "versions": _versions((*LIBRARIES, *EXPORTING)),
    }


def key(made: Made) -> str:
    """Give the name that a checkpoint is kept under."""
    return hashlib.sha256(json.dumps(made, sort_keys=True).encode()).hexdigest()


def _fields(spec: DatasetSpec) -> dict[str, Any]:
    """Give what rows are read by; how a finished model is asked changes no step."""
    return {name: value for name, value in spec.task_fields().items() if name != "generation"}


def _versions(libraries: Sequence[str] = LIBRARIES) -> dict[str, str]:
    """Give those that may matter; of Python the patch doesn't."""
    found = provenance.versions(libraries)
    return found | {"python": found["python"].rpartition(".")[0]}
