"""Weights that stay on disk until somebody asks for them."""

from __future__ import annotations

import os
from collections import defaultdict
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from compressit import anatomy, machine
from compressit.errors import StepError

if TYPE_CHECKING:
    import torch


@dataclass(frozen=True)
class Place:
    """Where a tensor lies: a safetensors file, and its name there."""

    file: Path
    key: str


@dataclass
class Disk:
    """Where the weights of a model lie.

    Attributes:
        places: Each tensor by its name in memory, as the model was found.
        parts: Files of the parts that a step has changed since, by part: the full name of a block, or "" for the rest.
    """

    places: dict[str, Place]
    parts: dict[str, Path] = field(default_factory=dict)


def opened(
    auto_class: Any, opener: Any, folder: Path, scratch: Path, **options: Any
) -> tuple[Any, dict[str, Any], Disk]:
    """Open a transformers model whose weights stay in its files; those that transformers lays out anew go to `scratch`.

    Args:
        auto_class: Of the task.
        opener: The class whose `from_pretrained` opens the folder.
        folder: Of the checkpoint.
        scratch: A folder for weights that can't stay as they lie.
        options: For `from_pretrained`.

    Returns:
        The module, its weights on the meta device; what transformers says of the loading; where the weights lie.
    """
    import torch
    import transformers
    from accelerate.hooks import remove_hook_from_module

    config = transformers.AutoConfig.from_pretrained(folder, trust_remote_code=options.get("trust_remote_code", False))
    with torch.device("meta"):
        shell = auto_class.from_config(config, trust_remote_code=options.get("trust_remote_code", False))
    scratch.mkdir(parents=True, exist_ok=True)
    module, info = opener.from_pretrained(
        folder, device_map=_device_map(shell), offload_folder=scratch, output_loading_info=True, **options
    )
    index = _index(module)
    remove_hook_from_module(module, recurse=True)
    places = {name: Place(Path(entry["safetensors_file"]), entry["weight_name"]) for name, entry in index.items()}
    return module, info, Disk(places)


def read(places: Mapping[str, Place]) -> dict[str, torch.Tensor]:
    """Give tensors out of their files, which stay mapped as long as the tensors live.

    The mapping is private: what is written to a tensor never reaches the file.
    """
    from safetensors import safe_open

    by_file: dict[Path, list[str]] = defaultdict(list)
    for name, place in places.items():
        by_file[place.file].append(name)
    found = {}
    for file, names in by_file.items():
        with safe_open(file, framework="pt") as stream:
            for name in names:
                found[name] = stream.get_tensor(places[name].key)
    return found


def contents(file: Path) -> tuple[dict[str, torch.Tensor], dict[str, str]]:
    """Read a whole file: its tensors and its metadata."""
    from safetensors import safe_open

    with safe_open(file, framework="pt") as stream:
        names = stream.keys()
        return {name: stream.get_tensor(name) for name in names}, stream.metadata() or {}


def write(file: Path, tensors: Mapping[str, torch.Tensor], metadata: Mapping[str, str] | None = None) -> None:
    """Write a safetensors file; it appears whole or not at all."""
    from safetensors import SafetensorError
    from safetensors.torch import save_file

    partial = file.with_name(f".{file.name}.partial")
    try:
        held = {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}
        save_file(held, partial, metadata=dict(metadata) if metadata else None)
        with partial.open("rb") as stream:
            os.fsync(stream.fileno())
        os.replace(partial, file)
    except SafetensorError as error:
        raise unwritten(file, error) from error
    finally:
        partial.unlink(missing_ok=True)


def unwritten(path: Path, error: Exception) -> StepError:
    """Say why safetensors could not write something."""
    free = machine.free_disk(path.parent)
    return StepError(
        f"writing {path} failed: {' '.join(str(error).split())[:200]} ({free:,} bytes free)",
        hint="earlier results are untouched; free some space, or choose a folder on another disk",
    )


def fill(module: Any, tensors: Mapping[str, torch.Tensor]) -> Callable[[], None]:
    """Give a module tensors in place of what it has under these names; what is given back undoes that."""
    import torch

    before = []
    for name, tensor in tensors.items():
        owner, leaf = _owner(module, name)
        slot = owner._parameters if leaf in owner._parameters else owner._buffers
        held = slot[leaf]
        before.append((slot, leaf, held))
        slot[leaf] = torch.nn.Parameter(tensor, held.requires_grad) if slot is owner._parameters else tensor

    def undo() -> None:
        for slot, leaf, held in before:
            slot[leaf] = held

    return undo


def _owner(module: Any, name: str) -> tuple[Any, str]:
    parent, _, leaf = name.rpartition(".")
    return module.get_submodule(parent), leaf


def _device_map(shell: Any) -> dict[str, str]:
    """Send everything to disk but the smallest module outside the blocks: transformers wants one in memory."""
    stacks = list(dict.fromkeys(name.rpartition(".")[0] for name, _ in anatomy.blocks(shell)))
    outside = {
        name: sum(parameter.numel() for parameter in part.parameters(recurse=False))
        for name, part in shell.named_modules()
        if not f"{name}.".startswith(tuple(f"{stack}." for stack in stacks))
    }
    holders = [name for name, count in outside.items() if count]
    smallest = min(
        (name for name in holders if not list(shell.get_submodule(name).children())), key=outside.__getitem__
    )
    return {**dict.fromkeys([*stacks, *holders], "disk"), smallest: "cpu"}


def _index(module: Any) -> dict[str, dict[str, str]]:
    """Take the table of what lies where from the hooks that transformers would load it with."""
    for part in module.modules():
        hook = getattr(part, "_hf_hook", None)
        for each in getattr(hook, "hooks", [hook]):
            found = getattr(each, "weights_map", None)
            index = getattr(getattr(found, "dataset", found), "index", None)
            if index:
                return dict(index)
    raise StepError("transformers left no table of the weights on disk")
