"""What all steps that walk through the blocks share: fields, and the loop over blocks and groups of matrices."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, Literal

from compressit import machine
from compressit.data.walking import Block, Group, How, ordinary, samples, walk
from compressit.errors import RecipeError
from compressit.model import Model
from compressit.model.matrices import Matrix
from compressit.steps import Need, StepConfig, StepContext

if TYPE_CHECKING:
    import torch

    from compressit.data.walking.statistics import Statistic


class WalkingConfig(StepConfig):
    """Fields of every step that measures what the matrices of each block see."""

    sequential: bool = True
    """Let the matrices of a block see what those before them in the block have become."""
    feed: Literal["compressed", "original"] = "compressed"
    """Whether a block sees what the blocks before it give after their change, or what they gave before."""
    precision: Literal["auto", "float32", "bfloat16"] = "auto"
    """Arithmetic of the forward passes; `auto` is bfloat16 where the processor has it. Statistics are float32."""

    special_tokens: bool = True
    """Count the positions of special tokens, such as [CLS] and <s>, in statistics; a decoder behind an encoder always
    does, and so do experts."""

    def needs(self) -> frozenset[Need]:
        """Ask for calibration data."""
        return frozenset({Need.CALIBRATION})

    def walks(self) -> bool:
        """Say that it does."""
        return True

    def waits(self) -> bool:
        """Say whether blocks are changed stage by stage."""
        return self.walks() and self.sequential and self.feed == "compressed"


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
    assert context.calibration is not None, "the plan refuses a walk without calibration data"
    blocks = tuple(f"{name}." for name, _ in model.blocks())
    outside = [name for name in chosen if not name.startswith(blocks)]
    if outside:
        raise RecipeError(f"{outside[0]} lies outside the blocks, where {config.step} does not come", hint="exclude it")
    batches = samples(context.calibration, model, context.max_length)
    how = How(
        statistic=statistic,
        sequential=config.sequential,
        feed=config.feed,
        device=context.device,
        dtype=_dtype(config.precision, context.device, model),
        limit=machine.free_memory() // 3,
        places=() if config.special_tokens else ordinary(batches, model),
    )
    with context.progress.bar(config.step, len(chosen)) as advance:
        for block in walk(model, batches, chosen, context.scratch, how):
            for group in block.groups():
                change(block, group)
                advance(len(group.matrices))


def _dtype(precision: str, device: str, model: Model) -> torch.dtype:
    import torch

    if precision == "auto":
        fast = torch.cuda.is_bf16_supported() if device.startswith("cuda") else machine.has_bfloat16()
        precision = "bfloat16" if fast else "float32"
    found: torch.dtype = getattr(torch, precision)
    return found
