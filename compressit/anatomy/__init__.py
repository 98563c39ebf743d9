"""Where each architecture keeps its blocks, as data; how to cut them out.

A family is one line of `FAMILIES`, keyed by the `model_type` of config.json. To add one, name the path of its list of
blocks below the base model, as `model.base_model.named_modules()` prints it.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from compressit.errors import StepError

if TYPE_CHECKING:
    from torch import nn


@dataclass(frozen=True)
class Family:
    """Where one architecture keeps its parts.

    Attributes:
        blocks: Path of the list of transformer blocks, below the base model.
        saved: The same path as checkpoints spell it, where that differs.
    """

    blocks: str
    saved: str | None = None


FAMILIES = {
    **dict.fromkeys(["bert", "roberta", "xlm-roberta", "camembert", "electra", "deberta-v2", "mpnet", "dinov2"],
                    Family("encoder.layer")),
    "distilbert": Family("transformer.layer"),
    **dict.fromkeys(["vit", "deit", "beit"], Family("layers", saved="encoder.layer")),
    **dict.fromkeys(["modernbert", "llama", "mistral", "qwen2", "qwen3", "gemma", "gemma2", "gemma3_text", "phi3",
                     "gpt_neox"], Family("layers")),
    "gpt2": Family("h"),
    "opt": Family("decoder.layers"),
}  # fmt: skip

PER_LAYER = ("layer_types", "mlp_layer_types")
"""Lists in config.json with one entry a block; they are cut with the blocks."""


def family(model_type: str) -> Family:
    """Look a family up; an error that says how to add it if it isn't there."""
    try:
        return FAMILIES[model_type]
    except KeyError:
        raise StepError(
            f"the anatomy of model type {model_type!r} is not known",
            hint=f"add a line to compressit/anatomy/__init__.py; known: {', '.join(sorted(FAMILIES))}",
        ) from None


def blocks(module: Any) -> list[tuple[str, nn.Module]]:
    """List the blocks of a transformers model as (full name, block), first to last."""
    path = family(module.config.model_type).blocks
    parent = module.base_model.get_submodule(path)
    prefix = next(name for name, child in module.named_modules() if child is parent)
    return [(f"{prefix}.{index}", block) for index, block in enumerate(parent)]


def keep_blocks(module: Any, keep: Sequence[int]) -> None:
    """Cut a transformers model down to the blocks at the indices in `keep`, in place; its config follows."""
    from torch import nn

    path = family(module.config.model_type).blocks
    owner, _, leaf = path.rpartition(".")
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


def module_name(model_type: str, saved: str) -> str:
    """Spell a checkpoint's tensor name as the module in memory does."""
    known = FAMILIES.get(model_type)
    if known is None or known.saved is None:
        return saved
    return re.sub(rf"(^|\.){re.escape(known.saved)}\.(\d+)\.", rf"\g<1>{known.blocks}.\2.", saved)


def block_index(model_type: str, name: str) -> int | None:
    """Find which block a tensor belongs to, by its name in memory; None outside the blocks."""
    known = FAMILIES.get(model_type)
    found = known and re.search(rf"(?:^|\.){re.escape(known.blocks)}\.(\d+)\.", name)
    return int(found.group(1)) if found else None
