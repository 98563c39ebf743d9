"""Run an ExecuTorch program on the CPU."""

from __future__ import annotations

import contextlib
import os
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from compressit import machine, tasks
from compressit.errors import StepError
from compressit.runtimes import Batch, Facts, Session, _pte, in_memory

FILE = "model.pte"
OPENING = """\
from transformers.exporters.base import ExportedModel

model = ExportedModel.from_pretrained(folder)
"""


def place(device: str) -> str:
    """Run on the CPU, which the program was lowered for."""
    return "cpu"


def open(folder: Path, task: str, device: str, trust_remote_code: bool = False, scratch: Path | None = None) -> Session:
    """Open model.pte; the file holds no code, so there is nothing to trust. It takes one example at a time.

    Raises:
        StepError: weights shall stay on disk, which this runtime can't.
    """
    in_memory("executorch", scratch)
    ready()
    import torch

    with _muted():
        from transformers.exporters.base import ExportedModel

        (runner,) = ExportedModel.from_pretrained(folder).runners.values()
    names, wanted = [*runner.metadata.kwargs], tasks.outputs(task)
    read = tasks.reader(task, folder)
    longest = runner.method.metadata.input_tensor_meta(0).sizes()[1]

    def run(batch: Batch) -> Any:
        given = {name: torch.from_numpy(array) for name, array in batch.items()}
        inputs = {name: given[name] for name in names}
        first = inputs[names[0]]
        if first.dim() == 2 and first.shape[1] > longest:
            raise StepError(f"{folder / FILE} takes at most {longest} tokens, and an example has {first.shape[1]}")
        answers = [runner(**{name: value[[row]] for name, value in inputs.items()}) for row in range(len(first))]
        return read({name: torch.cat([answer[name] for answer in answers]) for name in wanted}, given).numpy()

    return run


@contextlib.contextmanager
def _muted() -> Iterator[None]:
    """Keep what ExecuTorch and torchao print of themselves and of the processor off the terminal."""
    before, nothing = os.dup(2), os.open(os.devnull, os.O_WRONLY)
    try:
        os.dup2(nothing, 2)
        yield
    finally:
        os.dup2(before, 2)
        for file in (before, nothing):
            os.close(file)


def inspect(folder: Path) -> Facts:
    """Read the weights of model.pte, those given to XNNPACK included; indices and scales are not."""
    ready()
    import numpy as np

    file = folder / FILE
    dtypes: Counter[str] = Counter()
    nonzero = 0
    with _muted():
        constants = [*_pte.constants(file)]
    for dtype, array in constants:
        if array.size > 1:
            dtypes[dtype] += array.size
            nonzero += int(np.count_nonzero(array))
    return Facts(file.stat().st_size, dtypes.total(), nonzero, dict(dtypes))


def ready() -> None:
    """Look whether executorch is installed.

    Raises:
        MissingExtra: it is not.
    """
    machine.need({"executorch.runtime": "executorch"})
