"""Cut neurons, heads and channels between convolutions out of a module in memory.

What a cut one would have added to the block's output is gone; nothing makes up for it. One whose outgoing
weights are zero adds nothing, so cutting it changes no output.
"""

from __future__ import annotations

import copy
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from compressit.anatomy import naming, parts
from compressit.anatomy.describing import Attention
from compressit.anatomy.parts import Heads
from compressit.errors import StepError

if TYPE_CHECKING:
    from torch import nn

MARK = "compressit"
BY_TENSORS = {"shapes": "tensors"}
"""What config.json says under `MARK` where only the tensors tell how large everything is."""


ALIGNED = 8
"""What the width of an expert is a multiple of: torch multiplies groups of matrices whose rows fill 16 bytes each."""


def cut_neurons(module: Any, block_name: str, keep: Sequence[int]) -> None:
    """Cut a block's feed-forward network down to some of its neurons, in place; they keep their order.

    Call `settle` when all blocks are cut.

    Args:
        module: A transformers model, its weights in memory.
        block_name: Full name of the block.
        keep: Which neurons stay, counted from 0.

    Raises:
        StepError: none would stay, or there is no such neuron; or the anatomy doesn't say where they are.
    """
    ffn, count = parts.ffn(module, block_name), parts.neurons(module, block_name)
    kept = checked(keep, count, f"neurons of {block_name}")
    if len(kept) == count:
        return
    block = module.get_submodule(block_name)
    rows = [*kept, *(count + index for index in kept)] if ffn.halves else kept
    for path in ffn.up:
        _keep_outputs(block.get_submodule(path), rows)
    _keep_inputs(block.get_submodule(ffn.down), kept)
    _set(block, ffn.counts, len(kept))
    mark(module)


def cut_experts(module: Any, block_name: str, keep: Sequence[Sequence[int]]) -> None:
    """Cut each expert of a block down to some of its neurons, in place; all come to have as many.

    Call `settle` when all blocks are cut.

    Args:
        module: A transformers model, its weights in memory.
        block_name: Full name of the block.
        keep: Which neurons of each expert stay, counted from 0.

    Raises:
        StepError: none would stay, or there is no such neuron, or experts would differ in their number, which has to be
            a multiple of `ALIGNED`.
    """
    import torch

    (path, holder), count = parts.stacked(module, block_name), parts.neurons(module, block_name, "experts")
    kept = [checked(own, count, f"neurons of each expert in {block_name}") for own in keep]
    if len(kept) != len(holder.down_proj) or len({len(own) for own in kept}) != 1:
        raise StepError(f"the {len(holder.down_proj)} experts in {path} have to keep as many neurons each")
    if len(kept[0]) == count:
        return
    if len(kept[0]) % ALIGNED:
        raise StepError(
            f"{len(kept[0])} neurons would stay of each expert in {block_name}, and experts are multiplied in groups",
            hint=f"keep a multiple of {ALIGNED}: rows of such matrices fill 16 bytes in any type",
        )
    rows = torch.tensor(kept, device=holder.down_proj.device)
    both = torch.cat([rows, rows + count], 1)
    for leaf, indices, axis in (("gate_up_proj", both[:, :, None], 1), ("down_proj", rows[:, None], 2)):
        whole = getattr(holder, leaf)
        shape = [indices.shape[place] if place == axis else size for place, size in enumerate(whole.shape)]
        taken = whole.detach().gather(axis, indices.expand(shape)).contiguous()
        setattr(holder, leaf, torch.nn.Parameter(taken, whole.requires_grad))
    described = naming.known(module.config.model_type).experts
    assert described is not None, "they are stacked"
    _set(holder, described.counts, len(kept[0]))
    mark(module)


def cut_channels(module: Any, convolution: str, keep: Sequence[int]) -> None:
    """Cut the channels that a convolution reads down to some, in place, with the convolution and norm that give them.

    Call `settle` when all are cut.

    Args:
        module: A transformers model, its weights in memory.
        convolution: Full name, as `between` gives it.
        keep: Which channels stay, counted from 0.

    Raises:
        StepError: none would stay, or there is no such channel; or the convolution reads them in groups.
    """
    found = parts.link(module, convolution)
    up, norm, down = (module.get_submodule(name) for name in (found.up, found.norm, found.down))
    kept = checked(keep, down.in_channels, f"channels of {convolution}")
    if len(kept) == down.in_channels:
        return
    if up.groups != 1 or down.groups != 1:
        raise StepError(f"{convolution} reads channels in groups, which can't be cut one by one")
    _keep(up, "weight", 0, kept)
    _keep(up, "bias", 0, kept)
    for leaf in ("weight", "bias", "running_mean", "running_var"):
        _keep(norm, leaf, 0, kept)
    _keep(down, "weight", 1, kept)
    up.out_channels = norm.num_features = down.in_channels = len(kept)
    mark(module)


def keep_experts(module: Any, block_name: str, keep: Sequence[int]) -> None:
    """Leave a block some of its experts, in place; they keep their order, and its router knows no others.

    All blocks have to be left as many: config.json says one number, which follows.

    Args:
        module: A transformers model, its weights in memory.
        block_name: Full name of the block.
        keep: Which experts stay, counted from 0.

    Raises:
        StepError: none would stay, or there is no such expert.
    """
    import torch

    path, holder = parts.stacked(module, block_name)
    kept = torch.tensor(checked(keep, len(holder.down_proj), f"experts in {block_name}"))
    described = naming.known(module.config.model_type).experts
    assert described is not None, "they are stacked"
    router = module.get_submodule(f"{path.rpartition('.')[0]}.{described.router}")
    for part, leaf in ((holder, "gate_up_proj"), (holder, "down_proj"), (router, "weight")):
        whole = getattr(part, leaf)
        taken = whole.detach()[kept.to(whole.device)].contiguous()
        setattr(part, leaf, torch.nn.Parameter(taken, whole.requires_grad))
    # What the whole model and its config say is for all blocks alike.
    for part in (holder, router, module, module.config):
        if hasattr(part, "num_experts"):
            part.num_experts = len(kept)


def cut_heads(module: Any, block_name: str, keep: Sequence[int], kind: str = "self") -> None:
    """Cut a block's attention down to some of its heads, in place; they keep their order.

    Where query heads share key-value heads, `keep` counts the key-value heads, and each goes or stays with the query
    heads that it serves. All blocks `together` with it lose the same ones. Call `settle` when all blocks are cut.

    Args:
        module: A transformers model, its weights in memory.
        block_name: Full name of the block.
        keep: Which (key-value) heads stay, counted from 0.
        kind: "self" or "cross"; see `attentions`.

    Raises:
        StepError: none would stay, or there is no such head.
    """
    cut_heads_apart(module, dict.fromkeys(parts.together(module, block_name, kind), keep), kind)


def cut_heads_apart(module: Any, keep: Mapping[str, Sequence[int]], kind: str = "self") -> None:
    """Cut blocks that go `together` down to as many heads, but each to its own ones.

    Args:
        module: A transformers model, its weights in memory.
        keep: Which heads of each block stay, as for `cut_heads`.
        kind: "self" or "cross".

    Raises:
        StepError: none would stay, or there is no such head; or the blocks have to keep the same ones.
    """
    first = next(iter(keep))
    described, heads = parts.attention(module, first, kind), parts.heads(module, first, kind)
    kept = {name: checked(own, heads.groups, f"heads of {name}") for name, own in keep.items()}
    few = len(kept[first])
    if few == heads.groups:
        return
    table = parts.table(module, described)
    unlike = any(len(own) != few or (table and own != kept[first]) for own in kept.values())
    if unlike or {*keep} != {*parts.together(module, first, kind)}:
        what = "the same" if table else "as many"
        raise StepError(f"all blocks of the stack that {first} is in have to keep {what} heads of {kind}-attention")
    left = Heads(few * heads.shared, few, heads.head_dim)
    for name, own in kept.items():
        block = module.get_submodule(name)
        _keep_heads(block, described, heads, own)
        _set_heads(block.get_submodule(described.module), described, left)
    if table:
        holder, leaf = table
        _keep(holder, leaf, 1, _rows(kept[first], heads.shared))
        if hasattr(holder, "embedding_dim"):
            holder.embedding_dim = left.count
    mark(module)


def _keep_heads(block: nn.Module, described: Attention, heads: Heads, kept: list[int]) -> None:
    holder = block.get_submodule(described.module)
    query = _rows(kept, heads.shared * heads.head_dim)
    key_value = _rows(kept, heads.head_dim)
    held = {name for name, _ in holder.named_modules()}
    for path in held.intersection(described.query):
        _keep_outputs(holder.get_submodule(path), query)
    for path in held.intersection(described.key_value):
        _keep_outputs(holder.get_submodule(path), key_value)
    if described.fused:
        keys, values = heads.count * heads.head_dim, (heads.count + heads.groups) * heads.head_dim
        one_below_the_other = [*query, *(keys + row for row in key_value), *(values + row for row in key_value)]
        rows = _rows(kept, 3 * heads.head_dim) if described.interleaved else one_below_the_other
        _keep_outputs(holder.get_submodule(described.fused), rows)
    _keep_inputs(block.get_submodule(described.output), query)
    for path in described.tables:
        owner, _, leaf = path.rpartition(".")
        if any(name == owner for name, _ in block.named_modules()):
            _keep(block.get_submodule(owner), leaf, 1, _rows(kept, heads.shared))


def _set_heads(holder: Any, described: Attention, left: Heads) -> None:
    _set(holder, described.counts, left.count)
    _set(holder, described.key_value_counts, left.groups)
    _set(holder, described.widths, left.count * left.head_dim)
    if described.reads:
        holder.config = copy.copy(holder.config)
        setattr(holder.config, described.reads, left.count)


def _rows(kept: Iterable[int], each: int) -> list[int]:
    return [index * each + row for index in kept for row in range(each)]


def checked(keep: Sequence[int], count: int, what: str) -> list[int]:
    """Sort those to keep; an error if they are not different ones of so many."""
    kept = sorted({*keep})
    if not kept:
        raise StepError(f"none of the {count} {what} would stay", hint="keep one at least")
    if kept[0] < 0 or kept[-1] >= count or len(kept) != len(keep):
        raise StepError(f"there are {count} {what}; those to keep are not different ones of them: {list(keep)[:8]}")
    return kept


def _set(holder: Any, attributes: Iterable[str], value: int) -> None:
    for path in attributes:
        owner, _, leaf = path.rpartition(".")
        place = holder.get_submodule(owner)
        assert hasattr(place, leaf), f"{type(place).__name__} has no {leaf}"
        setattr(place, leaf, value)


def _keep_outputs(part: Any, rows: list[int]) -> None:
    from torch import nn

    parts.weight(part)
    linear = isinstance(part, nn.Linear)
    _keep(part, "weight", 0 if linear else 1, rows)
    _keep(part, "bias", 0, rows)
    setattr(part, "out_features" if linear else "nf", len(rows))


def _keep_inputs(part: Any, columns: list[int]) -> None:
    from torch import nn

    parts.weight(part)
    linear = isinstance(part, nn.Linear)
    _keep(part, "weight", 1 if linear else 0, columns)
    setattr(part, "in_features" if linear else "nx", len(columns))


def _keep(part: Any, leaf: str, axis: int, indices: list[int]) -> None:
    import torch

    whole = getattr(part, leaf)
    if whole is None:
        return
    chosen = torch.tensor(indices, device=whole.device)
    taken = whole.detach().index_select(axis, chosen).contiguous()
    learned = isinstance(whole, torch.nn.Parameter)
    setattr(part, leaf, torch.nn.Parameter(taken, whole.requires_grad) if learned else taken)


def mark(module: Any) -> None:
    """Note in a module's config that only its tensors tell its shapes."""
    # Until `settle` has found that config.json can say it.
    setattr(module.config, MARK, dict(BY_TENSORS))
