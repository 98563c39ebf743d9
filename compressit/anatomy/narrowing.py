"""The channels that flow between blocks: which tensors hold them, and how to cut some out of all of these.

Which axes of which tensors are as wide as the model is not written down for each architecture: the model is built
twice, without weights, the second time a little wider, and what has grown is told. Heads and neurons may grow along
where config.json gives them no number of their own; the descriptions tell these.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from compressit.anatomy import naming, parts
from compressit.anatomy.cutting import checked, mark
from compressit.anatomy.stacking import blocks
from compressit.errors import StepError

if TYPE_CHECKING:
    from torch import nn

SHAPED = {
    "Linear": ("out_features", "in_features"),
    "Conv1D": ("nx", "nf"),
    "Conv2d": ("out_channels",),
    "Embedding": ("num_embeddings", "embedding_dim"),
}
"""Attributes of layers that repeat the shape of their weights."""
EPS = {"eps", "variance_epsilon"}


@dataclass(frozen=True)
class Channels:
    """The channels of a module.

    Attributes:
        count: How many there are.
        axes: By tensor, the axes along which they lie; tensors without them are left out.
        attributes: What repeats their number: (module, attribute).
    """

    count: int
    axes: Mapping[str, tuple[int, ...]]
    attributes: frozenset[tuple[str, str]]


def channels(module: Any) -> Channels:
    """Find the channels of a module.

    Raises:
        StepError: the architecture is not described, or its attention is not, or no channel can go.
    """
    model_type = module.config.model_type
    if why := naming.as_wide(model_type):
        raise StepError(why, hint=naming.cut_instead(model_type))
    if not naming.heads_described(model_type):
        raise StepError(
            f"channels of {model_type} can't be told from its heads, which are not described",
            hint=f"add an Attention to {naming.file(model_type)}",
        )
    plain, wider = _built(module)
    grown, own = wider.state_dict(keep_vars=True), {*module.state_dict(keep_vars=True)}
    axes = {}
    for name, tensor in plain.state_dict(keep_vars=True).items():
        others = naming.unit_axes(model_type, name)
        sizes = zip(tensor.shape, grown[name].shape, strict=True)
        axes[name] = tuple(axis for axis, (one, other) in enumerate(sizes) if one != other and axis not in others)
    axes = {name: found for name, found in axes.items() if found and name in own}
    return Channels(parts.width(module), axes, _attributes(module, plain, wider))


def readers(module: Any, found: Channels) -> list[str]:
    """Name the layers whose inputs are the channels: full names, without ".weight"; no experts."""
    axis = {"Linear": 1, "Conv1D": 0}
    return [
        name
        for name, part in module.named_modules()
        if axis.get(_kind(part)) in found.axes.get(f"{name}.weight", ()) and parts.inputs(part) == found.count
    ]


def norms(module: Any, found: Channels) -> list[str]:
    """Name the norms over the channels."""
    return [name for name, part in module.named_modules() if _is_norm(part) and f"{name}.weight" in found.axes]


def narrow_norm(module: Any, name: str, keep: Sequence[int]) -> Any:
    """Give the norm that `cut_width` would leave in the place of one; nothing is changed."""
    import torch

    part = copy.deepcopy(module.get_submodule(name))
    whole = part.weight.numel()
    for leaf, tensor in list(part.named_parameters(recurse=False)):
        setattr(part, leaf, torch.nn.Parameter(tensor.detach()[list(keep)], tensor.requires_grad))
    if hasattr(part, "normalized_shape"):
        part.normalized_shape = (len(keep),)
    if naming.family(module.config.model_type).width.eps:
        _average_less(module, part, whole / len(keep))
    return part


def adjust(module: Any, name: str, scale: Any, shift: Any = 0) -> None:
    """Multiply what a norm gives, and add to it where it has a bias, in place: one number, or one for each channel."""
    _scale(module, module.get_submodule(name), scale, shift)


def cut_width(module: Any, keep: Sequence[int]) -> None:
    """Cut what flows between blocks down to some of its channels, in place; they keep their order.

    Where norms subtract no mean they are made up for: channels that are zero everywhere can go, and no output changes.
    A mean over fewer channels is another one, and nothing makes up for that. Call `settle` afterwards.

    Args:
        module: A transformers model, its weights in memory.
        keep: Which channels stay, counted from 0.

    Raises:
        StepError: none would stay, or there is no such channel; or the architecture is not described.
    """
    found = channels(module)
    kept = checked(keep, found.count, f"channels of {module.config.model_type}")
    if len(kept) < found.count:
        _make_up(module, found, found.count / len(kept))
        narrow(module, found, kept)
        mark(module)


def narrow(module: Any, found: Channels, kept: Sequence[int]) -> None:
    """Take channels out of all tensors and attributes, in place, and make up for nothing."""
    _keep_channels(module, found, kept)
    for name, leaf in found.attributes:
        part = module.get_submodule(name)
        setattr(part, leaf, (len(kept),) if isinstance(getattr(part, leaf), tuple) else len(kept))
    if naming.family(module.config.model_type).width.scales(module.config):
        for part in module.modules():
            if hasattr(part, "embed_scale"):
                part.embed_scale = part.embed_scale * (len(kept) / found.count) ** 0.5


def _keep_channels(module: Any, found: Channels, kept: Sequence[int]) -> None:
    import torch

    done: dict[int, Any] = {}
    for name, tensor in module.state_dict(keep_vars=True).items():
        owner, _, leaf = name.rpartition(".")
        if name not in found.axes:
            continue
        # One tensor may have several names: it stays one.
        if id(tensor) not in done:
            taken = tensor.detach()
            for axis in found.axes[name]:
                # A classifier may be given several vectors of channels, one behind the other.
                starts = range(0, taken.shape[axis], found.count)
                indices = [start + index for start in starts for index in kept]
                taken = taken.index_select(axis, torch.tensor(indices, device=taken.device))
            is_parameter = isinstance(tensor, torch.nn.Parameter)
            done[id(tensor)] = torch.nn.Parameter(taken, tensor.requires_grad) if is_parameter else taken
        part = module.get_submodule(owner)
        setattr(part, leaf, done[id(tensor)])
        if leaf == "weight":
            for attribute, size in zip(SHAPED.get(_kind(part), ()), part.weight.shape, strict=False):
                setattr(part, attribute, int(size))


def _built(module: Any) -> tuple[Any, Any]:
    """Build a module anew without weights as its config says, and once a little wider."""
    import torch

    built = []
    width = naming.family(module.config.model_type).width
    for wider in (False, True):
        config = type(module.config).from_dict(copy.deepcopy(module.config.to_dict()))
        before = getattr(config, width.key)
        # Heads of an even width each, as rotations ask for.
        more = 2 * getattr(config, naming.heads_key(config.model_type)) if wider else 0
        for key in (width.key, *width.also):
            if getattr(config, key, None) == before:
                setattr(config, key, before + more)
        with torch.device("meta"):
            built.append(getattr(type(module), "fits", type(module))(config))
    return built[0], built[1]


def _attributes(module: Any, plain: Any, wider: Any) -> frozenset[tuple[str, str]]:
    """Find the attributes that repeat the width, but for those of layers and those that count heads."""
    heads = set()
    for block, _ in blocks(module):
        for kind in parts.attentions(module, block):
            each = parts.attention(module, block, kind)
            names = (*each.widths, *each.counts, *each.key_value_counts, each.head_dim)
            heads |= {(f"{block}.{each.module}", name) for name in names}
    others, grown = dict(plain.named_modules()), dict(wider.named_modules())
    wide = getattr(plain.config, naming.family(plain.config.model_type).width.key)
    found = set()
    for name, part in module.named_modules():
        if _kind(part) in SHAPED or name not in others:
            continue
        for leaf, value in vars(others[name]).items():
            grows = type(value) in (int, tuple) and vars(grown[name]).get(leaf) != value
            if grows and value in (wide, (wide,)) and (name, leaf) not in heads:
                found.add((name, leaf))
    return frozenset(found)


def _kind(part: nn.Module) -> str:
    """Name the kind of a layer, whatever was derived from it."""
    return next((each.__name__ for each in type(part).__mro__ if each.__name__ in SHAPED), "")


def _is_norm(part: nn.Module) -> bool:
    own = {name: value for name, value in part.named_parameters(recurse=False)}
    return "weight" in own and own.keys() <= {"weight", "bias"} and own["weight"].dim() == 1


def _make_up(module: Any, found: Channels, ratio: float) -> None:
    """Have norms, and what is scaled by the root of the width, give what they gave; `ratio` is old width to new.

    The root of a mean over fewer channels, their sum the same, is larger by the root of the ratio.
    """
    import torch

    said, width = module.config, naming.family(module.config.model_type).width
    if width.eps:
        for name in norms(module, found):
            _average_less(module, module.get_submodule(name), ratio)
        setattr(said, width.eps, getattr(said, width.eps) * ratio)
    embeddings, output = module.get_input_embeddings(), module.get_output_embeddings()
    shrink = 1.0
    if width.scales(said):
        with torch.no_grad():
            embeddings.weight.mul_(ratio**0.5)
        shrink *= ratio**-0.5 if output is not None and output.weight is embeddings.weight else 1
    if output is not None and width.scales_logits and getattr(said, width.scales_logits):
        shrink *= ratio**-0.5
    if shrink == 1:
        return
    if width.last is None:
        raise StepError(f"{said.model_type} has no norm that could make up for embeddings scaled by its width")
    base = next(name for name, part in module.named_modules() if part is module.base_model)
    adjust(module, f"{base}.{width.last}".removeprefix("."), shrink)


def _average_less(module: Any, part: Any, ratio: float) -> None:
    """Have a norm give what it gave, when it averages over fewer channels of the same sum."""
    _scale(module, part, ratio**0.5)
    for leaf in EPS & vars(part).keys():
        setattr(part, leaf, getattr(part, leaf) * ratio)


def _scale(module: Any, part: Any, scale: Any, shift: Any = 0) -> None:
    import torch

    offset = naming.family(module.config.model_type).width.offset
    with torch.no_grad():
        part.weight.add_(offset).mul_(scale).sub_(offset)
        if getattr(part, "bias", None) is not None:
            part.bias.mul_(scale).add_(shift)
