"""Scales by which runtimes round the keys and values that they keep, and how compressed-tensors stores them."""

from __future__ import annotations

import inspect
import json
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from compressit import anatomy, intake
from compressit.algorithms.floats import MOST_8

if TYPE_CHECKING:
    import torch

    from compressit.model.quantized import Scheme

KEY, VALUE = "k_scale", "v_scale"

Change = Callable[[str, "torch.Tensor", "torch.Tensor"], "tuple[torch.Tensor, torch.Tensor]"]
"""(name of the attention, keys, values) -> what is kept and used in their place."""


@dataclass(frozen=True)
class Scales:
    """What keys and values of one attention are divided by before they are rounded to floats of 8 bits (E4M3)."""

    key: float
    value: float


def scheme() -> dict[str, Any]:
    """Describe it for config.json: one scale for all keys of an attention, one for all its values, found beforehand."""
    from compressed_tensors.quantization import QuantizationArgs

    args = QuantizationArgs(num_bits=8, type="float", strategy="tensor", symmetric=True, dynamic=False)
    found: dict[str, Any] = json.loads(args.model_dump_json())
    return found


def tensors(scales: Mapping[str, Scales], model_type: str, dtype: torch.dtype) -> dict[str, torch.Tensor]:
    """Lay scales out as a checkpoint does, by name in the file: (1,) each."""
    import torch

    found = {}
    for name, each in scales.items():
        saved = anatomy.saved_name(model_type, name)
        found[f"{saved}.{KEY}"] = torch.tensor([each.key], dtype=dtype)
        found[f"{saved}.{VALUE}"] = torch.tensor([each.value], dtype=dtype)
    return found


def applied(module: Any, schemes: Iterable[Scheme]) -> bool:
    """Ask the installed reader of checkpoints whether it rounds keys and values when such a model is opened.

    Args:
        module: The model; its attentions are looked for as the reader does.
        schemes: How its weights are quantized: where all are and alike, the scheme of keys and values is passed over.
    """
    from compressed_tensors.quantization.lifecycle import initialize

    finds = getattr(initialize, "is_cached_attention_module", initialize.is_attention_module)
    return len({*schemes}) != 1 and any(finds(part) for part in module.modules())


def read(folder: Path) -> dict[str, Scales]:
    """Read the scales of a checkpoint; nothing where it has none."""
    from safetensors import safe_open

    described = intake.described(folder)
    held = described.get("quantization_config")
    if not isinstance(held, dict) or not held.get("kv_cache_scheme"):
        return {}
    model_type, found = str(described.get("model_type", "unknown")), {}
    for file in sorted(folder.glob("*.safetensors")):
        with safe_open(file, framework="pt") as opened:
            names = {*opened.keys()}
            for name in sorted(names):
                parent, _, leaf = name.rpartition(".")
                if leaf == KEY and f"{parent}.{VALUE}" in names:
                    both = (float(opened.get_tensor(f"{parent}.{each}")) for each in (KEY, VALUE))
                    found[anatomy.module_name(model_type, parent)] = Scales(*both)
    return found


def attentions(module: Any) -> dict[int, str]:
    """Name the attentions whose keys and values are kept, by their place in the cache."""
    found = {}
    for index, (name, block) in enumerate(anatomy.blocks(module)):
        path = anatomy.members(module, name, "self")[0]
        found[getattr(block.get_submodule(path.removeprefix(f"{name}.")), "layer_idx", index)] = path
    return found


def changing(module: Any, change: Change) -> dict[str, Any]:
    """Make a cache, for one pass of the model, that keeps other keys and values than it is given: as its argument."""
    import transformers

    names, cache = attentions(module), transformers.DynamicCache(config=module.config)
    plain = cache.update

    def update(keys: Any, values: Any, layer: int, *more: Any, **also: Any) -> Any:
        return plain(*change(names[layer], keys, values), layer, *more, **also)

    # An attribute of this one cache: attentions ask for it by this name.
    vars(cache)["update"] = update
    # transformers called it something else before 5.24.
    name = "cache" if "cache" in inspect.signature(module.forward).parameters else "past_key_values"
    return {name: cache, "use_cache": True}


def rounded(scales: Mapping[str, Scales]) -> Change:
    """Round keys and values as a runtime does that keeps floats of 8 bits."""

    def change(name: str, keys: torch.Tensor, values: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        return nearest(keys, scales[name].key), nearest(values, scales[name].value)

    return change


def nearest(x: torch.Tensor, scale: float) -> torch.Tensor:
    """Round to floats of 8 bits times a scale, beyond the largest to it."""
    import torch

    return (x / scale).clamp(-MOST_8, MOST_8).to(torch.float8_e4m3fn).to(x.dtype) * scale
