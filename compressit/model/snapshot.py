"""A model between two steps, kept so that the next one finds the very same bytes when it is taken up again.

In memory, it is kept whole: `model/` holds the checkpoint that would be saved, its quantized matrices as the floats
they read back as, and their integers lie beside it. Left on disk, only the files of the parts that were changed are
kept; the rest lies in the model that the run began from.
"""

from __future__ import annotations

import json
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from compressit.model import disk
from compressit.model.opening import load
from compressit.model.parts import Part
from compressit.model.quantized import Quantized, from_file, to_file
from compressit.sharing import share

if TYPE_CHECKING:
    import torch

    from compressit.model.whole import Model

WHOLE, INTEGERS, PARTS, TABLE = "model", "integers.safetensors", "parts", "parts.json"


def keep(model: Model, folder: Path) -> None:
    """Write a model into an empty folder."""
    if model.disk is not None:
        (folder / PARTS).mkdir()
        table = {}
        for number, (name, file) in enumerate(model.disk.parts.items()):
            table[name] = f"{number:05}.safetensors"
            share(file, folder / PARTS / table[name])
        (folder / TABLE).write_text(json.dumps(table, indent=1) + "\n", encoding="utf-8")
        return
    replace(model, quantized={}).save(folder / WHOLE)
    tensors: dict[str, torch.Tensor] = {}
    schemes: dict[str, str] = {}
    for name, found in model.quantized.items():
        own, schemes[name] = to_file(name, found)
        tensors |= own
    if schemes:
        disk.write(folder / INTEGERS, tensors, schemes)


def moved(model: Model, folder: Path) -> None:
    """Have a model whose weights lie on disk find what was changed of them where it is kept."""
    if model.disk is not None:
        model.disk.parts.update(_kept_parts(folder))


def checkpoint(folder: Path) -> Path | None:
    """Find the checkpoint that would be saved of what was kept; None where it would first have to be put together."""
    return folder / WHOLE if (folder / WHOLE).is_dir() and not (folder / INTEGERS).exists() else None


def take_up(
    folder: Path,
    source: Path,
    task: str,
    *,
    device: str = "cpu",
    trust_remote_code: bool = False,
    scratch: Path | None = None,
) -> Model:
    """Open what `keep` wrote.

    Args:
        folder: Where it was kept; must stay as long as the model.
        source: The model that the run began from.
        task: Name of the task.
        device: Where to put it.
        trust_remote_code: Run Python code that the folder holds. Only ever from a command-line flag.
        scratch: Leave the weights on disk, and lay out here what can't be read as it is.
    """
    opened = partial(load, task=task, device=device, trust_remote_code=trust_remote_code)
    if not (folder / WHOLE).is_dir():
        model = opened(source, scratch=scratch)
        for name, file in _kept_parts(folder).items():
            _put(model, name, file)
        return model
    if scratch is None:
        model = opened(folder / WHOLE)
        model.quantized.update(_integers(folder))
        return model
    model = opened(source, scratch=scratch)
    changed = opened(folder / WHOLE, scratch=scratch / "changed")
    integers = _integers(folder)
    for number, (name, names) in enumerate(changed.parts().items()):
        part = changed.read(name, names)
        below = f"{name}." if name else ""
        part.quantized.update({key: found for key, found in integers.items() if name and key.startswith(below)})
        file = scratch / f"changed-{number:05}.safetensors"
        part.write(file, changed.module)
        _put(model, name, file)
    return model


def _kept_parts(folder: Path) -> dict[str, Path]:
    table = json.loads((folder / TABLE).read_text(encoding="utf-8"))
    return {name: folder / PARTS / file for name, file in table.items()}


def _put(model: Model, name: str, file: Path) -> None:
    if model.disk is not None:
        model.disk.parts[name] = file
        return
    part = Part.of_file(name, file, model.module)
    state = model.module.state_dict(keep_vars=True)
    for key, tensor in part.tensors.items():
        state[key].data.copy_(tensor)
    model.quantized.update(part.quantized)


def _integers(folder: Path) -> dict[str, Quantized]:
    if not (folder / INTEGERS).exists():
        return {}
    tensors, schemes = disk.contents(folder / INTEGERS)
    return {name: from_file(name, scheme, tensors) for name, scheme in schemes.items()}
