"""Cut channels out of what flows between blocks, for good: every matrix, embedding and norm gets narrower.

Which ones go is decided as in `prune_ffn`; what counts is what all matrices together read from a channel. Those that
stay make up for them by least squares: in every matrix that reads them, and in the norms, which average over fewer. A
model loses more by it than by as many heads and neurons: leave time to distil. config.json follows where it can say the
width; a BERT's says it when `prune_heads` cuts its heads by the same share. Otherwise `compressit.load` opens the
checkpoint, and an export, which models that write text have none of, opens anywhere.

Recipe::

    - step: prune_width
      sparsity: 0.25
"""

from __future__ import annotations

import contextlib
import math
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any, ClassVar

from pydantic import Field

from compressit import anatomy
from compressit.algorithms.refit import Line, refit
from compressit.data import walking
from compressit.data.walking.statistics import Gram
from compressit.errors import RecipeError
from compressit.model import Model
from compressit.steps import Notes, StepContext, Unsaid
from compressit.steps._calibration import batches
from compressit.steps._cutting import CuttingConfig, refit_inputs, rounds
from compressit.steps._importance import Units, importance
from compressit.weights import Weight, Weights

if TYPE_CHECKING:
    import torch


class Config(CuttingConfig):
    """Fields of the step."""

    cuts_inputs: ClassVar[bool] = True

    multiple: int = Field(8, ge=1)
    """Leave a multiple of so many channels, and of the number of heads, which many configs ask for."""

    def unsaid(self, end: Weights | None) -> Unsaid | None:
        """Name a width that doesn't go with the heads."""
        if end is None:
            return Unsaid("not every config.json can say a width that doesn't go with the heads")
        if anatomy.neurons_follow(end.model_type):
            return Unsaid(f"config.json of a {end.model_type} says how many neurons it has by its width")
        if not end.blocks() or end.heads_said:
            return None
        why, stiff = (
            f"config.json of a {end.model_type} can't say a width that doesn't go with its heads",
            not anatomy.heads_said(end.model_type),
        )
        heads = "prune_heads by the same share beside it, with uniform: true,"
        return Unsaid(why, sure=stiff, instead=heads if stiff else "")

    @property
    def batches(self) -> bool:
        """Whether what norms give is observed, in batches."""
        return self.refit


def run(model: Model, config: Config, context: StepContext) -> Notes:
    """Cut channels out, in place."""
    import torch

    before = anatomy.channels(model.module).count
    unit = math.lcm(config.multiple, getattr(model.module.config, anatomy.heads_key(model.module.config.model_type)))
    count = final(before, config.sparsity, unit, config.step)
    for share, own in rounds(config, context):
        found = anatomy.channels(model.module)
        first, *others = anatomy.readers(model.module, found)
        units = Units("", "width", first, found.count, 1, tuple(("", name) for name in others))
        (scores,) = importance(model, [units], config.importance, config.batch_size, own)
        order = torch.argsort(scores, descending=True, stable=True).tolist()
        keep = sorted(order[: left(before, share, unit)])
        lines = _refit(model, found, units, keep, config, own) if config.refit else {}
        anatomy.cut_width(model.module, keep)
        for name, line in lines.items():
            anatomy.adjust(model.module, name, *line.fit(shifted=_has_bias(model, name)))
    plain = anatomy.settle(model.module)
    return {"cut": before - count, "left": count, "opens_in_plain_transformers": plain}


def foresee(before: Weights, config: Config) -> Weights:
    """Narrow the tensors of the table, but not along heads, neurons and tokens."""
    if why := anatomy.as_wide(before.model_type):
        raise RecipeError(why, hint=anatomy.cut_instead(before.model_type))
    if before.width is None:
        raise RecipeError(f"{config.step} can't tell how wide a {before.model_type} is")
    count = final(before.width, config.sparsity, math.lcm(config.multiple, before.heads or 1), config.step)

    def narrowed(tensor: Weight) -> Weight:
        taken = anatomy.unit_axes(before.model_type, tensor.name)
        table = anatomy.is_embedding(tensor.name.rpartition(".")[0]) and len(tensor.shape) == 2
        if table and tensor.shape[1] == before.width:
            taken.add(0)
        shape = enumerate(tensor.shape)
        sizes = tuple(count if size == before.width and axis not in taken else size for axis, size in shape)
        return replace(tensor, shape=sizes)

    return replace(before.changed(map(narrowed, before.tensors)), width=count)


def left(count: int, share: float, unit: int) -> int:
    """Say how many channels stay when a share goes."""
    return min(count, max(unit, round(count * (1 - share) / unit) * unit))


def final(count: int, share: float, unit: int, step: str) -> int:
    """Say how many stay in the end; an error if all would."""
    stay = left(count, share, unit)
    if stay == count:
        raise RecipeError(
            f"{step}: a share of {share:.0%} cuts nothing out of {count} channels, {unit} at a time",
            hint="raise sparsity, or lower multiple",
        )
    return stay


def _refit(
    model: Model, found: anatomy.Channels, units: Units, keep: list[int], config: Config, context: StepContext
) -> dict[str, Line]:
    """Let the channels that stay make up for the others, in matrices; give what norms are to make up for by then."""
    import torch

    tokens = getattr(model.module.get_input_embeddings(), "weight", None)
    blocks = tuple(f"{name}." for name, _ in model.blocks())
    names = [name for _, name in units.members]
    inside = [Units("", units.kind, name, units.count, 1) for name in names if name.startswith(blocks)]
    outside = [name for name in names if not name.startswith(blocks)]
    # Tied embeddings are written by tokens as well as read.
    outside = [name for name in outside if model.module.get_submodule(name).weight is not tokens]
    lines, grams = _observe(model, anatomy.norms(model.module, found), outside, keep, config, context)
    refit_inputs(model, inside, [[keep]] * len(inside), config, context)
    with torch.no_grad():
        for name, gram in grams.items():
            weight = model.module.get_submodule(name).weight
            mask_C = torch.zeros(found.count, dtype=torch.bool, device=weight.device)
            mask_C[keep] = True
            weight.copy_(refit(weight.float(), gram.hessian(), mask_C))
    return lines


def _observe(
    model: Model, norms: Sequence[str], matrices: Sequence[str], keep: list[int], config: Config, context: StepContext
) -> tuple[dict[str, Line], dict[str, Gram]]:
    """See what norms give now next to what they will give, and what matrices read."""
    import torch

    part = model.module.get_submodule
    lines = {name: Line(len(keep), context.device) for name in norms}
    grams = {name: Gram(part(name).weight.shape[1], context.device) for name in matrices}
    places: list[torch.Tensor | None] = [None]

    def rows(values: torch.Tensor) -> torch.Tensor:
        mask = places[0]
        same = mask is not None and values.shape[:-1] == mask.shape
        return values[mask] if same else values.reshape(-1, values.shape[-1])

    def norm(name: str) -> Callable[..., None]:
        narrow = anatomy.narrow_norm(model.module, name, keep)

        def hook(whole: Any, args: Any, output: torch.Tensor) -> None:
            lines[name].add(rows(narrow(args[0][..., keep])), rows(output)[:, keep])

        return hook

    def matrix(name: str) -> Callable[..., None]:
        return lambda layer, args: grams[name].add(rows(args[0]))

    with contextlib.ExitStack() as stack, torch.no_grad():
        for name in norms:
            stack.callback(part(name).register_forward_hook(norm(name)).remove)
        for name in matrices:
            stack.callback(part(name).register_forward_pre_hook(matrix(name)).remove)
        for inputs, _ in batches(model, config.batch_size, context, "norms"):
            places[0] = _measured(inputs, model, config)
            model.module(**inputs)
    return lines, grams


def _measured(inputs: dict[str, torch.Tensor], model: Model, config: Config) -> torch.Tensor | None:
    """Mark the positions that count: (B, T); None for images."""
    if "attention_mask" not in inputs:
        return None
    real = inputs["attention_mask"].bool()
    (ordinary,) = [None] if config.special_tokens else walking.ordinary([inputs], model)
    return real if ordinary is None else real & ordinary


def _has_bias(model: Model, name: str) -> bool:
    return getattr(model.module.get_submodule(name), "bias", None) is not None
