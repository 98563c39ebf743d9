"""The vocabulary of a model: which tensors have a row for each token, and how to cut rows out of all of them."""

from __future__ import annotations

import copy
from collections.abc import Iterator, Mapping
from typing import Any

from compressit.errors import StepError

LISTS = ("suppress_tokens", "begin_suppress_tokens")
WORDS = ("bad_words_ids", "force_words_ids")
"""Lists of tokens, and of words of several tokens, in a generation config."""


def size(module: Any) -> int:
    """Count the tokens that a transformers model has embeddings for."""
    return int(module.config.get_text_config().vocab_size)


def axes(module: Any) -> dict[str, int]:
    """Find the tensors with a row for each token, whatever they are called: full names, and where those rows lie.

    The module is built anew, without weights and for one token more: what grows hangs on their number.
    """
    import torch

    count = size(module)
    config = copy.deepcopy(module.config)
    config.get_text_config().vocab_size = count + 1
    with torch.device("meta"):
        larger = dict(_tensors(type(module)(config)))
    return {
        name: axis
        for name, tensor in _tensors(module)
        if name in larger
        for axis, sizes in enumerate(zip(tensor.shape, larger[name].shape, strict=True))
        if sizes == (count, count + 1)
    }


def share(module: Any) -> float:
    """Say which share of a model's weights hangs on the number of tokens."""
    spanning = axes(module)
    found = {id(tensor): tensor.numel() for name, tensor in _tensors(module) if name in spanning}
    every = {id(tensor): tensor.numel() for _, tensor in _tensors(module)}
    return float(sum(found.values()) / sum(every.values()))


def named(module: Any) -> set[int]:
    """List the tokens that a model knows by their ids: those in its configs, and those that may not move.

    Raises:
        StepError: a generation config holds ids in a form that is not known.
    """
    count = size(module)
    found = set(range(_fixed(module)))
    for config in _configs(module):
        if getattr(config, "sequence_bias", None):
            raise StepError("sequence_bias in the generation config can't follow when tokens get other ids")
        for value in _special(config).values():
            found.update([value] if isinstance(value, int) else value)
    return {index for index in found if 0 <= index < count}


def cut(module: Any, ids: Mapping[int, int]) -> None:
    """Leave a transformers model only some of its tokens, in place; what is tied stays tied, and configs follow.

    Args:
        module: Its weights are in memory.
        ids: New ids by old ones, in the order of the new ones, which count from 0.
    """
    import torch
    from torch import nn

    count, spanning = size(module), axes(module)
    rows = torch.tensor([old for old in ids if old < count])
    if any(ids.get(index) != index for index in range(_fixed(module))):
        raise StepError("the padding token would move, and the model counts its positions from it")
    # A tensor that is tied goes by several names.
    made: dict[int, tuple[Any, Any]] = {}
    for name, part in module.named_modules():
        for slot in (part._parameters, part._buffers):
            for leaf, tensor in slot.items():
                axis = spanning.get(f"{name}.{leaf}" if name else leaf)
                if axis is None or tensor is None:
                    continue
                if id(tensor) not in made:
                    left = tensor.detach().index_select(axis, rows.to(tensor.device))
                    parameter = slot is part._parameters
                    made[id(tensor)] = tensor, nn.Parameter(left, tensor.requires_grad) if parameter else left
                slot[leaf] = made[id(tensor)][1]
                if isinstance(part, nn.Embedding):
                    part.num_embeddings = len(rows)
                elif isinstance(part, nn.Linear):
                    part.out_features = len(rows)
        if isinstance(getattr(part, "padding_idx", None), int):
            part.padding_idx = ids.get(part.padding_idx)
        if getattr(part, "vocab_size", None) == count:
            part.vocab_size = len(rows)
    for config in _configs(module):
        _follow(config, ids)
        if getattr(config, "vocab_size", None) == count:
            config.vocab_size = len(rows)


def _follow(config: Any, ids: Mapping[int, int]) -> None:
    """Write the new ids of tokens into a config; what was no token's id stays."""
    for key, value in _special(config).items():
        setattr(config, key, ids.get(value, value) if isinstance(value, int) else [ids.get(e, e) for e in value])
    for key in LISTS:
        if tokens := getattr(config, key, None):
            setattr(config, key, [ids[token] for token in tokens if token in ids] or None)
    for key in WORDS:
        if words := getattr(config, key, None):
            setattr(config, key, [[ids[t] for t in word] for word in words if ids.keys() >= {*word}] or None)


def _configs(module: Any) -> Iterator[Any]:
    """Give the configs of a model and of its parts, each once, and what it generates by."""
    found = {id(part.config): part.config for part in module.modules() if hasattr(part, "config")}
    yield from found.values()
    if getattr(module, "generation_config", None) is not None:
        yield module.generation_config


def _special(config: Any) -> dict[str, Any]:
    """Give the fields of a config that hold the id of a token, or of several."""
    return {
        key: value
        for key, value in vars(config).items()
        if key.endswith(("_token_id", "_token_ids"))
        and all(isinstance(each, int) for each in (value if isinstance(value, list | tuple) else [value]))
    }


def _fixed(module: Any) -> int:
    """Count the first tokens that may not move.

    RoBERTa and its kin count positions from the id of the padding token, which shows in their position embeddings.
    """
    from torch import nn

    spanning = axes(module)
    held = [
        part.padding_idx + 1
        for name, part in module.named_modules()
        if isinstance(part, nn.Embedding) and part.padding_idx is not None and f"{name}.weight" not in spanning
    ]
    return max(held, default=0)


def _tensors(module: Any) -> Iterator[tuple[str, Any]]:
    """Give all parameters and buffers by every name they go by."""
    yield from module.named_parameters(remove_duplicate=False)
    yield from module.named_buffers(remove_duplicate=False)
