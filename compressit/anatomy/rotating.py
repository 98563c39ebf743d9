"""Turn what flows between blocks, and what heads give, and have the model say what it said: all of it in weights.

What writes to the channels gives them turned, what reads them turns them back. Norms that subtract no mean don't care
which way the channels are turned, once their weights have moved into the matrices that read them.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any

from compressit.anatomy import naming, parts
from compressit.anatomy.folding import Fold, Side, folds, multiply
from compressit.anatomy.narrowing import Channels, channels, norms, readers
from compressit.anatomy.stacking import blocks, stacks
from compressit.errors import StepError

if TYPE_CHECKING:
    import torch


def fixed(model_type: str) -> str | None:
    """Say why the channels of an architecture can't be turned; None where nothing is known that is against it."""
    known = naming.known(model_type)
    if known.width.eps is None:
        return f"norms of a {model_type} subtract a mean, which is another one once channels are turned"
    if len(known.stacks) > 1:
        return f"a {model_type} has several stacks of blocks"
    return None


def turnable(module: Any) -> Channels:
    """Find the channels to turn.

    Raises:
        StepError: something depends on which way they are turned.
    """
    model_type = module.config.model_type
    if why := fixed(model_type):
        raise StepError(why, hint="leave this step out")
    if len(stacks(module)) != 1:
        raise StepError(f"a {model_type} has several stacks of blocks", hint="leave this step out")
    found = channels(module)
    state = module.state_dict(keep_vars=True)
    read = {fold.gives[0].tensor for fold in _norms(module) if len(fold.gives) == 1} | {_last(module)}
    left = [name for name in norms(module, found) if f"{name}.weight" not in read or f"{name}.bias" in state]
    if left:
        raise StepError(
            f"{left[0]} of a {model_type} gives what blocks add up, so that no matrix could take its weights over",
            hint="leave this step out",
        )
    for name, axes in found.axes.items():
        if len(axes) != 1 or state[name].shape[axes[0]] != found.count:
            raise StepError(f"how {name} of a {model_type} takes part in its channels is not known")
    return found


def untie(module: Any) -> bool:
    """Give the logits a matrix of their own where it is that of the embeddings; say whether it was."""
    import torch

    embeddings, output = module.get_input_embeddings(), module.get_output_embeddings()
    if output is None or output.weight is not embeddings.weight:
        return False
    output.weight = torch.nn.Parameter(embeddings.weight.detach().clone(), embeddings.weight.requires_grad)
    for config in (module.config, module.config.get_text_config()):
        config.tie_word_embeddings = False
    module.all_tied_weights_keys = {}
    return True


def free_norms(module: Any, found: Channels) -> None:
    """Move the weights of all norms over the channels into what reads them, in place; embeddings are not tied."""
    state = module.state_dict(keep_vars=True)
    inside = tuple(f"{name}." for name, _ in blocks(module))
    outside = tuple(Side(f"{name}.weight", 1) for name in readers(module, found) if not name.startswith(inside))
    for fold in (*_norms(module), Fold("norms", (_side(module, _last(module)),), outside)):
        _free(state, fold)


def rotate_channels(module: Any, found: Channels, turn_CC: torch.Tensor) -> None:
    """Turn what flows between blocks, in place: x becomes x turn."""
    state, done = module.state_dict(keep_vars=True), set()
    ones = {f"{name}.weight" for name in norms(module, found)}
    for name, (axis,) in found.axes.items():
        if name not in ones and id(state[name]) not in done:
            _turn(state[name], axis, None, turn_CC)
            done.add(id(state[name]))


def rotate_values(module: Any, block_name: str, turn_DD: torch.Tensor) -> int:
    """Turn what each head of a block's attention gives, in place; give how many attentions that was."""
    state = module.state_dict(keep_vars=True)
    found = [fold for fold in folds(module, block_name) if fold.kind == "values"]
    for fold in found:
        for side in (*fold.gives, *fold.reads):
            _turn(state[side.tensor], side.axis, side.places, turn_DD)
    return len(found)


def head_width(module: Any, block_name: str) -> int:
    """Give the width of a head."""
    return parts.heads(module, block_name).head_dim


def _norms(module: Any) -> list[Fold]:
    return [fold for name, _ in blocks(module) for fold in folds(module, name) if fold.kind == "norms"]


def _last(module: Any) -> str:
    """Name the weights of the norm ahead of the logits."""
    base = next(name for name, part in module.named_modules() if part is module.base_model)
    return f"{base}.{naming.family(module.config.model_type).width.last}.weight".removeprefix(".")


def _side(module: Any, tensor: str) -> Side:
    return Side(tensor, 0, offset=naming.family(module.config.model_type).width.offset)


def _free(state: Mapping[str, Any], fold: Fold) -> None:
    import torch

    (norm,) = fold.gives
    weight_C = state[norm.tensor]
    scale_C = weight_C.detach().double() + norm.offset
    for side in fold.reads:
        multiply(state[side.tensor], side, scale_C)
    with torch.no_grad():
        weight_C.fill_(1 - norm.offset)


def _turn(tensor: Any, axis: int, places: Iterable[int] | None, turn_NN: torch.Tensor) -> None:
    """Turn all runs of so many numbers along an axis, or some of them, in place and as exactly as the type allows."""
    import torch

    with torch.no_grad():
        index = None if places is None else torch.tensor(list(places), device=tensor.device)
        part = tensor if index is None else tensor.index_select(axis, index)
        runs = part.double().movedim(axis, -1).unflatten(-1, (-1, len(turn_NN)))
        turned = (runs @ turn_NN.to(part.device)).flatten(-2).movedim(-1, axis).to(tensor.dtype)
        if index is None:
            tensor.copy_(turned)
        else:
            tensor.index_copy_(axis, index, turned)
