"""What all steps that walk through the blocks share: fields, and the loop over blocks and groups of matrices."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from compressit import anatomy, machine, tasks
from compressit.anatomy import Fold
from compressit.data.walking import Block, Group, How, ordinary, samples, walk
from compressit.errors import RecipeError, StepError
from compressit.model import Model
from compressit.model.matrices import Matrix
from compressit.steps import Need, Notes, StepConfig, StepContext

if TYPE_CHECKING:
    import torch

    from compressit.data.walking.statistics import Statistic


class MeasuringConfig(StepConfig):
    """Fields of every step that measures what the matrices of each block see."""

    together: ClassVar[bool] = True

    precision: Literal["auto", "float32", "bfloat16"] = "auto"
    """Arithmetic of the forward passes; `auto` is bfloat16 where the processor has it. Statistics are float32."""

    special_tokens: bool = True
    """Count the positions of special tokens, such as [CLS] and <s>, in statistics; a decoder behind an encoder always
    does, and so do experts."""

    def idle(self) -> Mapping[str, str]:
        """Name what says how blocks are walked through, where nothing is learned from that."""
        walking = MeasuringConfig.model_fields.keys() | WalkingConfig.model_fields.keys()
        told = dict.fromkeys(walking - StepConfig.model_fields.keys(), self.watched or "")
        return {**super().idle(), **(told if self.watched else {})}

    @property
    def watched(self) -> str | None:
        """What would have the blocks be walked through for something; None where they are."""
        return None

    def unfit(self, task: str) -> str | None:
        """Refuse to tell special tokens of what has no tokens."""
        if self.says("special_tokens") and not tasks.reads_tokens(task):
            return f"special_tokens are some of a text's, and {task} has none; leave it out"
        return super().unfit(task)

    def needs(self) -> frozenset[Need]:
        """Ask for calibration data."""
        return frozenset({Need.CALIBRATION})

    def walks(self) -> int:
        """Say that it does, once."""
        return 1


class WalkingConfig(MeasuringConfig):
    """Fields of every step whose changes may be seen by what comes after them."""

    sequential: bool = True
    """Let the matrices of a block see what those before them in the block have become."""
    feed: Literal["compressed", "original"] = "compressed"
    """Whether a block sees what the blocks before it give after their change, or what they gave before."""

    def idle(self) -> Mapping[str, str]:
        """Name what a block that sees what the original gave doesn't go by."""
        return {**super().idle(), **({} if self.feed == "compressed" else {"sequential": "feed: compressed"})}

    def waits(self) -> bool:
        """Say whether blocks are changed stage by stage."""
        return bool(self.walks()) and self.sequential and self.feed == "compressed"


def each_group(
    model: Model,
    chosen: Mapping[str, Matrix],
    config: Any,
    context: StepContext,
    statistic: Callable[[int, str], Statistic],
    change: Callable[[Block, Group], None],
) -> None:
    """Walk through the blocks, and change each group of matrices that see the same inputs.

    Args:
        model: Changed in place.
        chosen: Matrices to change.
        config: A step's fields, with those of a walking step.
        context: Calibration rows, device, scratch.
        statistic: Makes what is measured of some inputs.
        change: Changes the matrices of a group.

    Raises:
        RecipeError: a chosen matrix lies outside the blocks.
    """
    how = _how(statistic, config, context, model, sequential=config.sequential, feed=config.feed)
    with context.progress.bar(config.step, len(chosen)) as advance:
        for block in each_block(model, chosen, config, context, how):
            for group in block.groups():
                change(block, group)
                advance(len(group.matrices))


def each_whole(model: Model, chosen: Mapping[str, Matrix], config: Any, context: StepContext) -> Iterator[Block]:
    """Walk through the blocks in float32, measuring nothing: for who runs them with tensors of its own.

    Args:
        model: Changed in place.
        chosen: Matrices of the blocks to stop at.
        config: A step's fields, with those of a walking step.
        context: Calibration rows, device, scratch.

    Raises:
        RecipeError: a chosen matrix lies outside the blocks.
    """
    import torch

    from compressit.data.walking.statistics import Norms

    how = replace(_how(Norms, config, context, model, sequential=False, feed=config.feed), dtype=torch.float32)
    with context.progress.bar(config.step, len(chosen)) as advance:
        for block in each_block(model, chosen, config, context, how):
            yield block
            advance(sum(name.startswith(f"{block.part.name}.") for name in chosen))


def each_fold(
    model: Model,
    chosen: Mapping[str, Matrix],
    config: Any,
    context: StepContext,
    statistic: Callable[[int, str], Statistic],
    scale: Callable[[Block, Fold, list[Group]], torch.Tensor | None],
) -> Notes:
    """Walk through the blocks, and fold scales into what gives the chosen matrices their inputs.

    Nothing that a block computes is changed, so that all inputs are measured in one pass.

    Args:
        model: Changed in place.
        chosen: Matrices whose inputs are scaled, where something can be folded into.
        config: A step's fields, with those of a measuring step, and `into`, the kinds of what is folded into.
        context: Calibration rows, device, scratch.
        statistic: Makes what is measured of some inputs.
        scale: Gives the scale of some channels, (C,), by the groups of matrices that read them; None for none.

    Returns:
        How many matrices read what can be scaled.

    Raises:
        RecipeError: there is none; or a chosen matrix lies outside the blocks.
        StepError: the model is quantized, or what would be changed is tied.
    """
    if model.quantized:
        raise StepError(f"{config.step} would undo the quantization of the model", hint="take it first")
    found = {
        name: [fold for fold in anatomy.folds(model.module, name) if fold.kind in config.into]
        for name, _ in model.blocks()
    }
    scaled = [
        matrix.name
        for matrix in chosen.values()
        if any(fold.is_read_by(*matrix.product) for folds in found.values() for fold in folds)
    ]
    if not scaled:
        raise RecipeError(
            f"nothing that gives the chosen layers of {model.module.config.model_type} their inputs can be scaled",
            hint="choose layers behind a norm, or leave this step out",
        )
    how = _how(statistic, config, context, model, sequential=False, feed="original")
    with context.progress.bar(config.step, len(chosen)) as advance:
        for block in each_block(model, chosen, config, context, how):
            groups = list(block.groups())
            for fold in found[block.part.name]:
                own = [group for group in groups if fold.is_read_by(*group.matrices[0].product)]
                own = [group for group in own if group.statistic.count]
                scale_C = scale(block, fold, own) if own else None
                if scale_C is not None:
                    block.fold(fold, scale_C)
            advance(sum(len(group.matrices) for group in groups))
    return {"scaled": len(scaled), "layers": len(chosen)}


def each_block(
    model: Model, chosen: Mapping[str, Matrix], config: Any, context: StepContext, how: How
) -> Iterator[Block]:
    """Walk through the blocks, and look at the positions that the step's fields say."""
    assert context.calibration is not None, "the plan refuses a walk without calibration data"
    blocks = tuple(f"{name}." for name, _ in model.blocks())
    outside = [name for name in chosen if not name.startswith(blocks)]
    if outside:
        raise RecipeError(f"{outside[0]} lies outside the blocks, where {config.step} does not come", hint="exclude it")
    rows, processes = context.calibration, context.processes
    batches = samples(rows, model, context.max_length, processes=processes, **context.fields)
    places = () if config.special_tokens else ordinary(batches, model)
    yield from walk(model, batches, chosen, context.scratch, replace(how, places=places))


def _how(
    statistic: Callable[[int, str], Statistic],
    config: Any,
    context: StepContext,
    model: Model,
    *,
    sequential: bool,
    feed: Literal["compressed", "original"],
) -> How:
    dtype, limit = _dtype(config, context.device, model), machine.free_memory() // (3 * context.processes)
    return How(statistic, sequential, feed, context.device, dtype, limit, processes=context.processes)


def _dtype(config: Any, device: str, model: Model) -> torch.dtype:
    import torch

    precision = config.precision
    if precision == "auto":
        fast = torch.cuda.is_bf16_supported() if device.startswith("cuda") else machine.has_bfloat16()
        precision = "bfloat16" if fast else "float32"
    found: torch.dtype = getattr(torch, precision)
    return found
