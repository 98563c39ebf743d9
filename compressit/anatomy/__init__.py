"""Where each architecture keeps its parts, as data; how to cut blocks out.

A family is one line of `FAMILIES`, keyed by the `model_type` of config.json. To add one, name the path of its list of
blocks below the base model, as `model.base_model.named_modules()` prints it.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import TYPE_CHECKING, Any

from compressit.errors import StepError

if TYPE_CHECKING:
    from torch import nn


@dataclass(frozen=True)
class Experts:
    """How a mixture of experts is spelled, where transformers stacks all experts of a block in two parameters.

    Attributes:
        module: Name of the module that holds them.
        gate_up: Names of the two matrices that lie one below the other in `gate_up_proj`, as checkpoints spell them.
        down: Name of the one in `down_proj`.
    """

    module: str = "experts"
    gate_up: tuple[str, str] = ("gate_proj", "up_proj")
    down: str = "down_proj"


@dataclass(frozen=True)
class Family:
    """Where one architecture keeps its parts.

    Attributes:
        blocks: Paths of the lists of transformer blocks, below the base model, in the order that data walks them.
        saved: Parts of names as checkpoints spell them, and as the module in memory does, where they differ.
        transposed: Whether its matrices lie as (inputs, outputs), as GPT-2's do.
        experts: How its experts are spelled, where it has any.
        left: Glob patterns of two-dimensional weights inside the blocks that are no matrices of linear layers, or that
            nobody compresses: routers, tables of position biases.
    """

    blocks: tuple[str, ...]
    saved: tuple[tuple[str, str], ...] = ()
    transposed: bool = False
    experts: Experts | None = None
    left: tuple[str, ...] = ()


ATTENTION = tuple((f".attention.attention.{saved}", f".attention.{memory}_proj")
                  for saved, memory in (("query", "q"), ("key", "k"), ("value", "v")))  # fmt: skip
VIT = (*ATTENTION, (".attention.output.dense", ".attention.o_proj"), (".intermediate.dense", ".mlp.fc1"),
       (".output.dense", ".mlp.fc2"), ("encoder.layer.", "layers."))  # fmt: skip
DECODER = Family(("layers",))
ROUTER = "*.mlp.gate"
FAMILIES = {
    **dict.fromkeys(["bert", "roberta", "xlm-roberta", "camembert", "electra", "deberta-v2", "mpnet"],
                    Family(("encoder.layer",))),
    "distilbert": Family(("transformer.layer",)),
    **dict.fromkeys(["vit", "deit", "beit"], Family(("layers",), saved=VIT)),
    "dinov2": Family(("encoder.layer",), saved=(*ATTENTION, (".attention.output.dense", ".attention.o_proj"))),
    **dict.fromkeys(["modernbert", "llama", "mistral", "qwen2", "qwen3", "gemma", "gemma2", "gemma3_text", "phi3",
                     "gpt_neox"], DECODER),
    "gpt2": Family(("h",), transposed=True),
    "opt": Family(("decoder.layers",)),
    "mixtral": Family(("layers",), saved=((".block_sparse_moe.", ".mlp."),),
                      experts=Experts(gate_up=("w1", "w3"), down="w2"), left=(ROUTER,)),
    **dict.fromkeys(["qwen2_moe", "qwen3_moe", "olmoe"],
                    Family(("layers",), experts=Experts(), left=(ROUTER, "*.mlp.shared_expert_gate"))),
    "t5": Family(("encoder.block", "decoder.block"), left=("*.relative_attention_bias",)),
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


def stacks(module: Any) -> list[list[tuple[str, nn.Module]]]:
    """List the blocks of a transformers model as (full name, block), stack by stack, first to last."""
    found = []
    for path in family(module.config.model_type).blocks:
        parent = module.base_model.get_submodule(path)
        prefix = next(name for name, child in module.named_modules() if child is parent)
        found.append([(f"{prefix}.{index}", block) for index, block in enumerate(parent)])
    return found


def keep_blocks(module: Any, keep: Sequence[int]) -> None:
    """Cut a transformers model down to the blocks at the indices in `keep`, in place; its config follows."""
    from torch import nn

    paths = family(module.config.model_type).blocks
    if len(paths) > 1:
        raise StepError(f"blocks of {module.config.model_type}, which has {len(paths)} stacks, can't be dropped yet")
    owner, _, leaf = paths[0].rpartition(".")
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
    return _respelled(saved, _known(model_type).saved)


def saved_name(model_type: str, name: str) -> str:
    """Spell a name in memory as checkpoints do."""
    return _respelled(name, [(memory, saved) for saved, memory in _known(model_type).saved])


def block_index(model_type: str, name: str) -> int | None:
    """Find which block a tensor belongs to, by its name in memory; None outside the blocks.

    Blocks are counted within their stack.
    """
    found = _block(model_type, name)
    return int(found.group("index")) if found else None


def block_name(model_type: str, name: str) -> str | None:
    """Find the full name of the block that a tensor belongs to; None outside the blocks."""
    found = _block(model_type, name)
    return name[: found.end("index")] if found else None


def is_left(model_type: str, name: str) -> bool:
    """Tell whether a two-dimensional weight is not one that is compressed."""
    return any(fnmatchcase(name, pattern) for pattern in _known(model_type).left)


def is_transposed(model_type: str) -> bool:
    """Tell whether the matrices inside the blocks lie as (inputs, outputs)."""
    return _known(model_type).transposed


def is_embedding(name: str) -> bool:
    """Tell an embedding by the name of the module that holds it."""
    return "embed" in name or name.rpartition(".")[2] in ("wte", "wpe", "shared")


def _known(model_type: str) -> Family:
    return FAMILIES.get(model_type, Family(()))


def _block(model_type: str, name: str) -> re.Match[str] | None:
    for path in _known(model_type).blocks:
        found = re.search(rf"(?:^|\.){re.escape(path)}\.(?P<index>\d+)\.", name)
        if found:
            return found
    return None


def _respelled(name: str, pairs: Sequence[tuple[str, str]]) -> str:
    for old, new in pairs:
        # A path that starts inside a name may also start it.
        start = re.escape(old) if old.startswith(".") else rf"(?:(?<=\.)|^){re.escape(old)}"
        follow = r"(?=\d)" if not old.startswith(".") else ""
        name = re.sub(start + follow, new, name)
    return name
