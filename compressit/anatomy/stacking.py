"""The transformer blocks of a module, and how to cut whole ones out."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from compressit.anatomy.naming import family, whole
from compressit.errors import StepError

if TYPE_CHECKING:
    from torch import nn

PER_LAYER = ("layer_types", "mlp_layer_types")
"""Lists in config.json with one entry a block; they are cut with the blocks."""


def blocks(module: Any) -> list[tuple[str, nn.Module]]:
    """List the blocks of a transformers model as (full name, block), each once."""
    return [block for stack in _stacks(module) for block in stack]


def stacks(module: Any) -> list[list[tuple[str, nn.Module]]]:
    """List the blocks of a transformers model as (full name, block), stack by stack, in the order that data walks them.

    Raises:
        StepError: data walks the same blocks again and again.
    """
    if family(module.config.model_type).repeated:
        raise StepError(
            f"all layers of {module.config.model_type} share their blocks, which can't be walked one by one",
            hint="`refit: false` cuts heads and neurons without a walk",
        )
    return _stacks(module)


def keep_blocks(module: Any, keep: Sequence[int]) -> None:
    """Cut a transformers model down to the blocks at the indices in `keep`, in place; its config follows."""
    from torch import nn

    found = family(module.config.model_type)
    if why := whole(module.config.model_type):
        raise StepError(why)
    owner, _, leaf = found.stacks[0].path.rpartition(".")
    parent = module.base_model.get_submodule(owner)
    kept = nn.ModuleList(getattr(parent, leaf)[index] for index in keep)
    # Caches and per-layer attention find their place by this number.
    for index, block in enumerate(kept):
        for part in block.modules():
            if hasattr(part, "layer_idx"):
                part.layer_idx = index
    setattr(parent, leaf, kept)
    for name in PER_LAYER:
        entries = getattr(module.config, name, None)
        if entries is not None:
            setattr(module.config, name, [entries[index] for index in keep])
    module.config.num_hidden_layers = len(kept)
    if hasattr(module.config, "stage_names"):
        # BEiT's and DINOv2's list the embeddings and each block, and which of them to hand out: by default the last.
        module.config.stage_names = module.config.stage_names[: len(kept) + 1]
        module.config.set_output_features_output_indices(None, None)


def _stacks(module: Any) -> list[list[tuple[str, nn.Module]]]:
    base = next(name for name, part in module.named_modules() if part is module.base_model)
    prefix = f"{base}." if base else ""
    found = []
    for stack in family(module.config.model_type).stacks:
        path = re.escape(prefix + stack.path).replace(r"\*", r"\d+")
        lists = [(name, part) for name, part in module.named_modules() if re.fullmatch(path, name)]
        if not lists:
            raise StepError(f"{type(module).__name__} has no blocks at {stack.path}")
        found.append([(f"{name}.{index}", block) for name, part in lists for index, block in enumerate(part)])
    return found
