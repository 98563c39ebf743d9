"""What the steps share that round matrices one by one, whatever the others are, and the layers' inputs too if asked."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Literal

from compressit.algorithms.floats import MOST_8
from compressit.data.walking import Block, Group
from compressit.data.walking.statistics import Peaks
from compressit.errors import StepError
from compressit.model import Model
from compressit.model.matrices import Matrix
from compressit.model.parts import visits
from compressit.model.quantized import Quantized, Scheme, activations
from compressit.steps import Need, Notes, StepConfig, StepContext
from compressit.steps._walking import WalkingConfig, each_group

if TYPE_CHECKING:
    import torch


class RoundingConfig(StepConfig):
    """Fields of every step that may round the layers' inputs."""

    scales: Literal["dynamic", "static"] = "dynamic"
    """Where activations are rounded, whether each token's scale is that of its own largest value when it comes, or all
    have one, of the largest value that the calibration data has."""

    def idle(self) -> Mapping[str, str]:
        """Name what says how inputs are rounded, where they aren't."""
        return {**super().idle(), **({} if self.rounds_inputs else {"scales": "activations"})}

    @property
    def rounds_inputs(self) -> bool:
        """Whether the layers' inputs are rounded, too."""
        raise NotImplementedError

    def needs(self) -> frozenset[Need]:
        """Ask for calibration data where scales are found beforehand."""
        return super().needs() | (frozenset({Need.CALIBRATION}) if self.walks() else frozenset())

    def walks(self) -> int:
        """Say whether inputs are measured."""
        return int(self.scales == "static")


def round_each(
    model: Model,
    matrices: Mapping[str, Matrix],
    config: Any,
    context: StepContext,
    rounded: Callable[[Matrix, torch.Tensor, torch.dtype], Quantized],
) -> Notes:
    """Round matrices, part by part or, where their inputs are measured, in a walk through the blocks.

    Args:
        model: Changed in place.
        matrices: Those to round.
        config: A step's fields, with a `scheme` and those of a rounding step.
        context: Calibration rows where scales are static, scratch.
        rounded: Rounds a matrix that is stored in a type.

    Raises:
        StepError: weights or inputs are not finite.
    """
    import torch

    lost = power = 0.0

    def found(weight_OI: torch.Tensor, matrix: Matrix, dtype: torch.dtype) -> Quantized:
        nonlocal lost, power
        if not bool(weight_OI.isfinite().all()):
            raise StepError(f"{matrix.name} holds weights that are not finite")
        made = rounded(matrix, weight_OI, dtype)
        lost += float((made.weight_OI.to(weight_OI.device).float() - weight_OI).square_().sum())
        power += float(weight_OI.square().sum())
        return made

    def change(block: Block, group: Group) -> None:
        scale = _scale(group, config.scheme)
        for matrix in group.matrices:
            dtype = block.dtype(matrix)
            made = found(block.weight(matrix), matrix, dtype)
            block.quantize(matrix, replace(made, inputs=scale.to("cpu", dtype, copy=True)))

    if config.scheme.activations == "static":
        exact = model.module.dtype == torch.float32
        precision: Literal["auto", "float32"] = "float32" if exact else "auto"
        how = WalkingConfig(step=config.step, feed="original", precision=precision)
        each_group(model, matrices, how, context, Peaks, change)
    else:
        with context.progress.bar(config.step, len(matrices)) as advance:
            for part in visits(model, matrices, context.scratch):
                for matrix in part.within(matrices):
                    part.quantize(matrix, found(part.weight(matrix), matrix, part.tensors[matrix.parameter].dtype))
                    advance(1)
    if config.scheme.activations and model.disk is None:
        _compute_as_saved(model, matrices, config.scheme)
    # A run that went on knows nothing of what the killed one had done.
    error = {"relative_error": float(f"{lost / power:.3g}")} if power else {}
    return {"layers": len(matrices), **error}


def _scale(group: Group, scheme: Scheme) -> torch.Tensor:
    """Scale inputs by the largest that was seen: (1,)."""
    import torch

    largest = group.statistic.largest_I.max().reshape(1)
    if not bool(torch.isfinite(largest).all()):
        raise StepError(f"the inputs of {group.matrices[0].name} are not finite")
    # What the largest input becomes.
    most = MOST_8 if scheme.number == "fp8" else 2 ** (scheme.input_bits - 1) - 1
    return torch.where(largest > 0, largest / most, torch.ones_like(largest))


def _compute_as_saved(model: Model, matrices: Mapping[str, Matrix], scheme: Scheme) -> None:
    """Have the module in memory round its activations as the saved one will."""
    from compressed_tensors.quantization import (
        QuantizationScheme,
        QuantizationStatus,
        initialize_module_for_quantization,
    )

    for name in matrices:
        layer = model.module.get_submodule(name)
        inputs = QuantizationScheme(targets=["Linear"], input_activations=activations(scheme))
        initialize_module_for_quantization(layer, inputs, force_zero_point=False)
        layer.quantization_status = QuantizationStatus.FROZEN
        found = model.quantized[name].inputs
        if found is not None:
            # No parameter of the module: it is saved with the matrix.
            del layer.input_scale
            layer.input_scale = found.to(layer.weight.device)
