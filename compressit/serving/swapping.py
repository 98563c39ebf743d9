"""What of a checkpoint can be put into the model that it was made of, a part at a time, and how that is done."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from compressit import anatomy
from compressit.model import Model
from compressit.report import Layer

KINDS = {"ffn": "feed-forward network", "experts": "experts", "self": "attention", "cross": "cross-attention",
         "channels": "convolutions"}  # fmt: skip
ATTENTIONS = ("self", "cross")
MATRIX, SEVERAL, LEFT_OUT = "matrix", "several matrices", "block left out"
NEW = "the original has no such matrix"
GONE = "it was taken out, and nothing stands in its place"
OTHER_MODEL = "the checkpoint is another kind of model"
OTHER_TOKENS = "it holds other tokens than the original's: a vocabulary changes as a whole"
TOGETHER = "all blocks have to have as many heads: they changed together"
OTHER_WIDTH = "it doesn't fit between its neighbours in the original: the width changes in all blocks at once"


@dataclass(frozen=True)
class Part:
    """What is swapped at once.

    Attributes:
        name: Its own, or that of the block it lies in and what it is there; as the original has it.
        block: The original's.
        places: What is put where: full names in the original and in the checkpoint, of modules or parameters.
        skips: Number of the block that is left out of the original; None where something is put in.
        why: Why it can't be; empty where it can.
    """

    name: str
    kind: str
    block: str | None
    places: tuple[tuple[str, str], ...] = ()
    skips: int | None = None
    why: str = ""


def parts(layers: Sequence[Layer], before: Model, after: Model, *, dropped: bool) -> list[Part]:
    """Find the smallest parts that fit: a matrix, or what it was cut together with.

    Args:
        layers: The matrices of the checkpoint, and those of the original that it lacks.
        before: The original.
        after: The checkpoint.
        dropped: Whether blocks were dropped, so that one that isn't there stands for nothing else.
    """
    cut = _cut(layers, before, after)
    found: dict[str, Part] = {}
    for layer in layers:
        part = (
            _gone(layer, layers, before, dropped=dropped) if layer.after is None else _made(layer, cut, before, after)
        )
        found.setdefault(part.name, part)
    return list(found.values())


def same(before: Any, after: Any, part: Part) -> bool:
    """Tell whether what would be put in is what is there already."""
    return all(_equal(_held(before, own), _held(after, other)) for own, other in part.places)


@contextlib.contextmanager
def swapped(before: Any, after: Any, part: Part) -> Iterator[None]:
    """Put a part of one module into another until the block ends."""
    slots = [(_slot(before, own), _held(after, other)) for own, other in part.places]
    held = [slot[leaf] for (slot, leaf), _ in slots]
    for (slot, leaf), new in slots:
        slot[leaf] = new
    try:
        yield
    finally:
        for ((slot, leaf), _), old in zip(slots, held, strict=True):
            slot[leaf] = old


def _made(layer: Layer, cut: dict[tuple[str, str], Part], before: Model, after: Model) -> Part:
    """Find the part that a matrix of the checkpoint is put in with."""
    model_type = after.module.config.model_type
    for (inside, kind), part in cut.items():
        if layer.block == inside and (kind in _kinds(model_type, layer.name) or _within(layer.name, part)):
            return part
    name = layer.was or layer.name
    block = anatomy.block_name(model_type, f"{name}.")
    if model_type != before.module.config.model_type:
        return Part(name, MATRIX, block, why=OTHER_MODEL)
    if layer.before is None:
        return Part(name, MATRIX, block, why=NEW)
    if layer.before != layer.after:
        return Part(name, MATRIX, block, why=_misfit(layer))
    own, whole = _reached(before.module, name)
    other, _ = _reached(after.module, layer.name)
    if not own or not other:
        return Part(name, MATRIX, block, why=NEW)
    places = ((own, other), *_tied(before.module, after.module, own, other))
    return Part(own, MATRIX if whole else SEVERAL, block, places)


def _cut(layers: Sequence[Layer], before: Model, after: Model) -> dict[tuple[str, str], Part]:
    """Find attentions, networks and convolutions of another size, by block and kind, that fit as a whole."""
    model_type = after.module.config.model_type
    by_unit: dict[tuple[str, str], list[Layer]] = {}
    for layer in layers:
        if layer.block and layer.before and layer.after and layer.before != layer.after:
            for kind in _kinds(model_type, layer.name):
                by_unit.setdefault((layer.block, kind), []).append(layer)
    found = {}
    for (block, kind), own in by_unit.items():
        if not all(_fits(model_type, layer) for layer in own):
            continue
        origin = anatomy.block_name(model_type, f"{own[0].was or own[0].name}.") or block
        names = anatomy.members(after.module, block, kind)
        places = tuple((f"{origin}{name.removeprefix(block)}", name) for name in names)
        label = places[0][0] if len(places) == 1 else f"{origin}, {KINDS[kind]}"
        if kind in ATTENTIONS and len(anatomy.together(after.module, block, kind)) > 1:
            found[block, kind] = Part(label, KINDS[kind], origin, why=TOGETHER)
        else:
            found[block, kind] = Part(label, KINDS[kind], origin, places)
    return found


def _kinds(model_type: str, name: str) -> list[str]:
    """Say which units of its block a matrix has along one of its axes."""
    found = []
    for tensor in (f"{name}.weight", name):
        network = "experts" if anatomy.is_expert(model_type, name) else "ffn"
        found += [network] if anatomy.neuron_axis(model_type, tensor) is not None else []
        found += ["channels"] if anatomy.between_axes(model_type, tensor) else []
        found += [kind for kind in ATTENTIONS if anatomy.head_axis(model_type, tensor, kind) is not None]
    return found


def _fits(model_type: str, layer: Layer) -> bool:
    """Tell whether a matrix differs from the original's in its units alone."""
    axes = anatomy.unit_axes(model_type, f"{layer.name}.weight") | anatomy.unit_axes(model_type, layer.name)
    pairs = zip(layer.before or (), layer.after or (), strict=True)
    return all(old == new for axis, (old, new) in enumerate(pairs) if axis not in axes)


def _within(name: str, part: Part) -> bool:
    return any(f"{name}.".startswith(f"{own}.") for _, own in part.places)


def _misfit(layer: Layer) -> str:
    """Say why nothing around a matrix of another shape fits."""
    old, new = layer.before or (), layer.after or ()
    if not layer.block and len(old) == len(new) == 2 and old[0] != new[0] and old[1] == new[1]:
        return OTHER_TOKENS
    return OTHER_WIDTH


def _gone(layer: Layer, layers: Sequence[Layer], before: Model, *, dropped: bool) -> Part:
    """Find the block that a matrix went with, if the whole of it did."""
    model_type, blocks = before.module.config.model_type, [name for name, _ in before.blocks()] if dropped else []
    stays = {
        anatomy.block_name(model_type, f"{other.was or other.name}.") for other in layers if other.after is not None
    }
    if layer.block in blocks and layer.block not in stays:
        return Part(layer.block, LEFT_OUT, layer.block, skips=blocks.index(layer.block))
    return Part(layer.name, MATRIX, layer.block, why=GONE)


def _reached(module: Any, name: str) -> tuple[str, bool]:
    """Follow a name as far as the module goes; say whether that is all of it. Experts lie several in one tensor."""
    held, path = module, list[str]()
    for piece in name.split("."):
        if piece in held._parameters and held._parameters[piece] is not None:
            return ".".join([*path, piece]), True
        if held._modules.get(piece) is None:
            return ".".join(path), False
        held = held._modules[piece]
        path.append(piece)
    return name, True


def _tied(before: Any, after: Any, own: str, other: str) -> list[tuple[str, str]]:
    """Find the places that share a tensor with what is swapped, in both models: an output head, mostly."""
    mine, theirs = ({id(p) for p in _parameters(_held(*each))} for each in ((before, own), (after, other)))
    shared = dict(after.named_parameters(remove_duplicate=False))
    return [
        (name, name)
        for name, parameter in before.named_parameters(remove_duplicate=False)
        if id(parameter) in mine and not f"{name}.".startswith(f"{own}.") and id(shared.get(name)) in theirs
    ]


def _parameters(part: Any) -> list[Any]:
    return list(part.parameters()) if hasattr(part, "parameters") else [part]


def _held(module: Any, path: str) -> Any:
    slot, leaf = _slot(module, path)
    return slot[leaf]


def _slot(module: Any, path: str) -> tuple[Any, str]:
    owner, _, leaf = path.rpartition(".")
    holder = module.get_submodule(owner)
    return (holder._modules if leaf in holder._modules else holder._parameters), leaf


def _equal(one: Any, other: Any) -> bool:
    import torch

    if not hasattr(one, "state_dict"):
        return one.shape == other.shape and bool(torch.equal(one, other))
    mine, theirs = one.state_dict(), other.state_dict()
    return mine.keys() == theirs.keys() and all(
        mine[name].shape == theirs[name].shape and bool(torch.equal(mine[name], theirs[name])) for name in mine
    )
