"""Write a model as a checkpoint that transformers opens, part by part where its weights lie on disk.

Where config.json can't say the shapes of a model that was cut, it says so, and `load` fits the modules to the tensors.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from compressit import anatomy
from compressit.errors import StepError
from compressit.model import caches, disk
from compressit.model.matrices import matrices
from compressit.model.quantized import Scheme, config

if TYPE_CHECKING:
    import torch

    from compressit.model.parts import Part
    from compressit.model.whole import Model

LARGE = 50_000_000
"""Bytes of a tensor outside the blocks that gets a file of its own, where weights lie on disk."""
WEIGHTS, INDEX, CONFIG = "model.safetensors", "model.safetensors.index.json", "config.json"


def save(model: Model, folder: Path) -> None:
    """Write config and weights."""
    from safetensors import SafetensorError

    folder.mkdir(parents=True, exist_ok=True)
    anatomy.settle(model.module)
    if model.disk is None and not model.quantized and not model.caches:
        try:
            model.module.save_pretrained(folder)
        except SafetensorError as error:
            raise disk.unwritten(folder, error) from error
        return
    schemes = _write_weights(model, folder)
    module = model.module
    module.config.architectures = [type(module).__name__]
    module.config.dtype = module.dtype
    module.config.save_pretrained(folder)
    if module.can_generate() and getattr(module, "generation_config", None) is not None:
        module.generation_config.save_pretrained(folder)
    if schemes or model.caches:
        _describe(folder / CONFIG, module, schemes, caches.scheme() if model.caches else None)


def _write_weights(model: Model, folder: Path) -> dict[str, Scheme]:
    """Write all weights; give the schemes of those quantized, by their names."""
    shards = list(_shards(model))
    weight_map: dict[str, str] = {}
    schemes: dict[str, Scheme] = {}
    total = 0
    for number, (part, names) in enumerate(shards, 1):
        read = model.read(part, names)
        schemes |= {name: found.scheme for name, found in read.quantized.items()}
        tensors = _as_saved(model, read, names)
        if number == len(shards):
            tensors |= caches.tensors(model.caches, model.module.config.model_type, model.module.dtype)
        file = WEIGHTS if len(shards) == 1 else f"model-{number:05}-of-{len(shards):05}.safetensors"
        disk.write(folder / file, tensors, {"format": "pt"})
        weight_map |= dict.fromkeys(tensors, file)
        total += sum(tensor.numel() * tensor.element_size() for tensor in tensors.values())
    if len(shards) > 1:
        index = {"metadata": {"total_size": total}, "weight_map": weight_map}
        (folder / INDEX).write_text(json.dumps(index, indent=2, sort_keys=True) + "\n", encoding="utf-8")
    return schemes


def _shards(model: Model) -> Iterator[tuple[str, list[str]]]:
    """Divide the tensors into files: one for all where they are in memory, one for each block where they are not."""
    state = model.module.state_dict(keep_vars=True)
    tied = getattr(model.module, "all_tied_weights_keys", None) or {}
    parts = {part: [name for name in names if name not in tied] for part, names in model.parts().items()}
    if model.disk is None:
        yield "", [name for names in parts.values() for name in names]
        return
    outside = parts.pop("")
    yield from parts.items()
    large = [name for name in outside if state[name].numel() * state[name].element_size() > LARGE]
    yield from (("", [name]) for name in large)
    yield "", [name for name in outside if name not in large]


def _as_saved(model: Model, part: Part, names: list[str]) -> dict[str, torch.Tensor]:
    """Spell and lay out tensors as checkpoints do."""
    from transformers.core_model_loading import revert_weight_conversion

    module = model.module
    tensors: dict[str, torch.Tensor] = revert_weight_conversion(module, {name: part.tensors[name] for name in names})
    for name, found in part.quantized.items():
        saved = anatomy.saved_name(module.config.model_type, name)
        if tensors.pop(f"{saved}.weight", None) is None:
            raise StepError(f"transformers saves {name} under a name that compressit does not know")
        tensors |= {f"{saved}.{leaf}": tensor for leaf, tensor in found.stored().items()}
    return tensors


def _left(module: Any, quantized: Mapping[str, Scheme]) -> list[str]:
    """Name the layers that keep their weights, as the module and as the file spell them: readers look for either."""
    from torch import nn

    model_type = module.config.model_type
    linear = [name for name, part in module.named_modules() if isinstance(part, nn.Linear)]
    routers = [
        name for name, part in module.named_modules() if anatomy.is_left(model_type, name) and hasattr(part, "weight")
    ]
    names = [*linear, *routers, *(matrix.name for matrix in matrices(module))]
    return _spelled(model_type, [name for name in names if name not in quantized])


def _spelled(model_type: str, names: Sequence[str]) -> list[str]:
    return list(dict.fromkeys(each for name in names for each in (name, anatomy.saved_name(model_type, name))))


def _describe(file: Path, module: Any, schemes: Mapping[str, Scheme], cache: Mapping[str, Any] | None) -> None:
    model_type = module.config.model_type
    groups: dict[Scheme, dict[str, None]] = {}
    for name, scheme in sorted(schemes.items(), key=lambda entry: entry[0]):
        # Readers take the scheme of all experts from the group that names them in a regular expression.
        expert = anatomy.is_expert(model_type, name)
        targets = [anatomy.expert_pattern(model_type)] if expert else _spelled(model_type, [name])
        groups.setdefault(scheme, {}).update(dict.fromkeys(targets))
    found: dict[str, Any] = json.loads(file.read_text(encoding="utf-8"))
    named = {scheme: [*names] for scheme, names in groups.items()}
    found["quantization_config"] = config(named, _left(module, schemes), cache)
    file.write_text(json.dumps(found, indent=2, sort_keys=True) + "\n", encoding="utf-8")
