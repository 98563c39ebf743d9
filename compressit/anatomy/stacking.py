"""The blocks of a module, and how to cut whole ones out."""

from __future__ import annotations

import itertools
import re
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from compressit.anatomy.describing import Stack
from compressit.anatomy.naming import family, staged, whole
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


def stages(module: Any) -> list[list[tuple[str, nn.Module]]]:
    """List the blocks in stretches that data walks without anything in between: `stacks`, or their stages.

    Raises:
        StepError: data walks the same blocks again and again.
    """
    found = []
    for stack, own in zip(family(module.config.model_type).stacks, stacks(module), strict=True):
        lists = itertools.groupby(own, lambda block: block[0].rpartition(".")[0])
        found += [list(blocks) for _, blocks in lists] if stack.staged else [own]
    return found


def keep_blocks(module: Any, *keep: Sequence[int]) -> None:
    """Cut a transformers model down to some of its blocks, in place; its config follows.

    Args:
        module: A transformers model.
        keep: Which blocks stay, counted within their stack: one list for each stack.

    Raises:
        StepError: none can be dropped.
    """
    found = family(module.config.model_type)
    if why := whole(module.config.model_type):
        raise StepError(why)
    for stack, kept in zip(found.stacks, keep, strict=True):
        if stack.stays and not stack.staged and kept[0] > 0:
            raise StepError(f"the first block of {module.config.model_type} can't be dropped: {stack.stays}")
        (_keep_in_stages if stack.staged else _keep)(module, stack, kept)
    config = module.config
    if staged(config.model_type):
        # Lists of the same names say other things there.
        return
    for name in PER_LAYER:
        entries = getattr(config, name, None)
        if entries is not None:
            setattr(config, name, [entries[index] for index in keep[0]])
    if hasattr(config, "mlp_only_layers"):
        # Qwen's say by number which blocks have no experts, and of the others every how many do.
        every = config.decoder_sparse_step
        dense = [index for index in keep[0] if index in config.mlp_only_layers or (index + 1) % every]
        config.mlp_only_layers, config.decoder_sparse_step = [list(keep[0]).index(index) for index in dense], 1
    if hasattr(config, "stage_names"):
        # BEiT's and DINOv2's list the embeddings and each block, and which of them to hand out: by default the last.
        config.stage_names = config.stage_names[: len(keep[0]) + 1]
        config.set_output_features_output_indices(None, None)


def _keep(module: Any, stack: Stack, keep: Sequence[int]) -> None:
    from torch import nn

    owner, _, leaf = stack.path.rpartition(".")
    parent = module.base_model.get_submodule(owner)
    whole_list = getattr(parent, leaf)
    kept = nn.ModuleList(whole_list[index] for index in keep)
    if kept[0] is not whole_list[0]:
        for path in stack.first:
            holder, _, name = path.rpartition(".")
            setattr(kept[0].get_submodule(holder), name, getattr(whole_list[0].get_submodule(holder), name))
    # Caches and per-layer attention find their place by this number.
    for index, block in enumerate(kept):
        for part in block.modules():
            if hasattr(part, "layer_idx"):
                part.layer_idx = index
    setattr(parent, leaf, kept)
    setattr(module.config, stack.depth, len(kept))
    if getattr(parent, "config", module.config) is not module.config:
        # T5's stacks have one of their own, with a number for their own blocks.
        parent.config.num_hidden_layers = len(kept)


def _keep_in_stages(module: Any, stack: Stack, keep: Sequence[int]) -> None:
    from torch import nn

    first, depths = 0, []
    for name, whole_list in _lists(module, stack):
        kept = [whole_list[index - first] for index in keep if first <= index < first + len(whole_list)]
        if stack.stays and first not in keep:
            raise StepError(f"the first block of {name} can't be dropped: {stack.stays}")
        owner, _, leaf = name.rpartition(".")
        made = nn.ModuleList(kept) if isinstance(whole_list, nn.ModuleList) else nn.Sequential(*kept)
        setattr(module.get_submodule(owner), leaf, made)
        first += len(whole_list)
        depths.append(len(kept))
    setattr(module.config, stack.depth, depths)


def _stacks(module: Any) -> list[list[tuple[str, nn.Module]]]:
    return [
        [(f"{name}.{index}", block) for name, part in _lists(module, stack) for index, block in enumerate(part)]
        for stack in family(module.config.model_type).stacks
    ]


def _lists(module: Any, stack: Stack) -> list[tuple[str, Any]]:
    """Find the lists of a stack's blocks: full names, and themselves."""
    base = next(name for name, part in module.named_modules() if part is module.base_model)
    path = re.escape(f"{base}.{stack.path}".removeprefix(".")).replace(r"\*", r"\d+")
    found = [(name, part) for name, part in module.named_modules() if re.fullmatch(path, name)]
    if not found:
        raise StepError(f"{type(module).__name__} has no blocks at {stack.path}")
    return found
