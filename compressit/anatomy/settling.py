"""What config.json says of shapes, and modules that are built as tensors say."""

from __future__ import annotations

import copy
from collections.abc import Iterator, Mapping
from typing import Any

from compressit.anatomy import naming, parts
from compressit.anatomy.cutting import BY_TENSORS, MARK, cut_channels, cut_experts, cut_heads, cut_neurons
from compressit.anatomy.factoring import build, factored, ranks, whole
from compressit.anatomy.narrowing import channels, narrow
from compressit.anatomy.stacking import blocks


def settled(config: Any) -> bool:
    """Tell whether a transformers config, or a parsed config.json, says all shapes of its model."""
    said = config.get(MARK) if isinstance(config, Mapping) else getattr(config, MARK, None)
    return said != BY_TENSORS


def settle(module: Any) -> bool:
    """Write into a module's config, after cuts, what it can say of the shapes, in place.

    What it can't say stays in the tensors alone; the config is marked then, and `compressit.load` opens the checkpoint.

    Returns:
        Whether it says them all, and plain transformers opens the checkpoint.
    """
    config = module.config
    if settled(config):
        return True
    if factored(module):
        return False
    sizes, heads = _width(module) | _agreed(_sizes(module)), _agreed(_heads(module))
    for said in ({**sizes, **heads}, sizes):
        before = {key: getattr(config, key) for key in said if hasattr(config, key)}
        _write(config, said)
        if _says_all(module):
            delattr(config, MARK)
            _share(module)
            return True
        for key in said.keys() - before.keys():
            delattr(config, key)
        _write(config, before)
    _write(config, _agreed(_sizes(module)))
    return False


def fit(module: Any, shapes: Mapping[str, tuple[int, ...]]) -> None:
    """Cut a module that was built as its config says, and holds no weights yet, down to the shapes of its tensors.

    Args:
        module: A transformers model.
        shapes: Of a checkpoint's tensors, by their names in memory.
    """
    model_type = module.config.model_type
    inner = {naming.inner(model_type, name): shape for name, shape in whole(shapes).items()}
    axis = 0 if naming.is_transposed(model_type) else 1

    def size(name: str, axis: int) -> int | None:
        shape = inner.get(f"{naming.inner(model_type, name)}.weight")
        return shape[axis] if shape else None

    def columns(name: str) -> int | None:
        return size(name, axis)

    if naming.heads_described(model_type):
        name, _ = blocks(module)[0]
        wide = size(parts.output(module, name, parts.attentions(module, name)[0]), 1 - axis)
        if wide is not None and wide < parts.width(module):
            narrow(module, channels(module), range(wide))
    for name, _ in blocks(module):
        for kind in parts.networks(module, name):
            experts = parts.experts(module, name) if kind == "experts" else ()
            wanted = columns(experts[0] if experts else parts.down(module, name))
            if wanted is not None and wanted < parts.neurons(module, name, kind):
                if experts:
                    cut_experts(module, name, [range(wanted)] * len(experts))
                else:
                    cut_neurons(module, name, range(wanted))
        for convolution in parts.between(module, name):
            wanted = size(convolution, 1)
            if wanted is not None and wanted < module.get_submodule(convolution).in_channels:
                cut_channels(module, convolution, range(wanted))
        for kind in parts.attentions(module, name):
            heads, wanted = parts.heads(module, name, kind), columns(parts.output(module, name, kind))
            if wanted is not None and wanted < heads.count * heads.head_dim:
                cut_heads(module, name, range(wanted // (heads.head_dim * heads.shared)), kind)
    # Names in the module, of which those in the file may differ.
    build(module, ranks(shapes))


def _width(module: Any) -> dict[str, int]:
    """Give what the config is to say of the width."""
    if not naming.heads_described(module.config.model_type):
        return {}
    described = naming.family(module.config.model_type).width
    before, count = getattr(module.config, described.key), parts.width(module)
    keys = [key for key in (described.key, *described.also) if getattr(module.config, key, None) == before]
    return dict.fromkeys(keys, count) if count != before else {}


def _sizes(module: Any) -> Iterator[tuple[str, int | None]]:
    """Give what each block asks its config to say of its feed-forward network."""
    for name, _ in blocks(module):
        for kind in parts.networks(module, name):
            count = parts.neurons(module, name, kind)
            experts = naming.known(module.config.model_type).experts
            if kind == "experts" and experts is not None:
                yield experts.size, count
                continue
            ffn = parts.ffn(module, name)
            unit = getattr(module.config, ffn.times) if ffn.times else 1
            if ffn.size:
                yield ffn.size, count // unit if count % unit == 0 else None


def _heads(module: Any) -> Iterator[tuple[str, int | None]]:
    """Give what each block asks its config to say of its heads, where it can say a changed number."""
    for name, _ in blocks(module):
        for kind in parts.attentions(module, name):
            keys, heads = parts.attention(module, name, kind).keys, parts.heads(module, name, kind)
            if keys.head_dim:
                yield keys.head_dim, heads.head_dim
            if keys.head_dim or parts.width(module) == heads.count * heads.head_dim:
                yield keys.heads, heads.count
                if keys.key_value:
                    yield keys.key_value, heads.groups
            else:
                yield keys.heads, None


def _agreed(asked: Iterator[tuple[str, int | None]]) -> dict[str, int]:
    """Keep what all blocks agree on."""
    found: dict[str, set[int | None]] = {}
    for key, value in asked:
        found.setdefault(key, set()).add(value)
    return {key: value for key, values in found.items() for value in values if len(values) == 1 and value is not None}


def _write(config: Any, said: Mapping[str, Any]) -> None:
    for key, value in said.items():
        setattr(config, key, value)


def _says_all(module: Any) -> bool:
    """Build the module anew from what its config would read back as, without weights, and compare."""
    import torch
    from huggingface_hub.errors import StrictDataclassError

    try:
        config = type(module.config).from_dict(copy.deepcopy(module.config.to_dict()))
    except StrictDataclassError:
        # Some configs refuse numbers of heads that the modules could do with.
        return False
    with torch.device("meta"):
        built = type(module)(config)
    ours, theirs = module.state_dict(keep_vars=True), built.state_dict(keep_vars=True)
    same = all(theirs[name].shape == tensor.shape for name, tensor in ours.items() if name in theirs)
    return same and all(
        parts.heads(module, name, kind) == parts.heads(built, name, kind)
        for name, _ in blocks(module)
        for kind in parts.attentions(module, name)
    )


def _share(module: Any) -> None:
    """Give blocks that have a config of their own the module's again."""
    for name, _ in blocks(module):
        for kind in parts.attentions(module, name):
            described = parts.attention(module, name, kind)
            if described.reads:
                module.get_submodule(name).get_submodule(described.module).config = module.config
