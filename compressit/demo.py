"""The built-in demos' models: trained once on this machine, kept in the cache."""

from __future__ import annotations

import hashlib
import importlib.metadata
import inspect
import platform
import time
from pathlib import Path
from types import ModuleType
from typing import Any

from compressit import steps, store
from compressit.data import DatasetSpec, rows, source
from compressit.errors import RetryableError
from compressit.model import Model
from compressit.progress import Progress
from compressit.steps import StepContext

SEED = 0
PAUSE = 1
"""Seconds between two looks at what another process does."""


def cached(path: str) -> Path | None:
    """Find the folder of a demo's model if it was trained before."""
    folder = _place(path, _module(path))
    return folder if (folder / store.MANIFEST).is_file() else None


def folder(path: str, progress: Progress) -> Path:
    """Give the folder of a demo's model, trained first if it must be (less than a minute on two cores)."""
    found = cached(path)
    if found is not None:
        progress.say(f"{path}: using the model trained before, {found}")
        return found
    demo = _module(path)
    target = _place(path, demo)
    progress.say(f"{path}: training its model (once, kept in {target.parent})")
    while cached(path) is None:
        store.wait(target.name, progress.say)
        if cached(path) is None:
            try:
                with store.unfinished(target.name) as scratch, store.staged(target) as temporary:
                    _train(path, demo, temporary, scratch, progress)
            except RetryableError:
                # Another process is at it, in a cache of its own that leads to the same folder.
                time.sleep(PAUSE)
    return target


def _train(path: str, demo: ModuleType, target: Path, scratch: Path, progress: Progress) -> None:
    module, processor = demo.untrained(demo.splits()["train"], SEED)
    model = Model(module, processor, demo.TASK, path)
    spec = DatasetSpec(path=path, evaluation="test", columns=demo.COLUMNS)
    step: Any = steps.load("finetune")
    config = step.Config.model_validate({"step": "finetune", **demo.TRAINING})
    context = StepContext(
        train=rows(spec, "train", demo.TASK, module.config.id2label, Path()),
        calibration=None,
        teacher=lambda _: model,
        device="cpu",
        seed=SEED,
        progress=progress,
        scratch=scratch,
    )
    step.run(model, config, context)
    model.save(target)


def _module(path: str) -> ModuleType:
    found = source.demo(path)
    assert found is not None, "only demo: paths come here"
    return found


def _place(path: str, demo: ModuleType) -> Path:
    made_by = [inspect.getsource(demo), platform.python_version()]
    made_by += [importlib.metadata.version(name) for name in ("torch", "transformers", "tokenizers")]
    key = hashlib.sha256("\0".join(made_by).encode()).hexdigest()
    return store.home() / "demos" / f"{path.removeprefix('demo:')}-{key[:16]}"
