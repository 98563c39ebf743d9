"""Round the weights of the linear layers to integers, and optionally activations too as they come.

Round-to-nearest: no data, no training, seconds. int8 by channel loses next to nothing; int4 wants groups, and
`clip: mse` where groups are large (a search for the range of least squared error, Frantar et al. 2023,
arXiv:2210.17323). The checkpoint is saved in the compressed-tensors format, which plain transformers opens. In plain
PyTorch on a CPU it is smaller, not faster: for speed there, export to ONNX or OpenVINO with int8 weights.

Recipe::

    - step: quantize_rtn
      bits: 8
"""

from __future__ import annotations

from typing import Literal

from pydantic import model_validator

from compressit.algorithms.gptq import nearest
from compressit.errors import StepError
from compressit.model import Model
from compressit.model.matrices import Matrix
from compressit.model.parts import Part, visits
from compressit.model.quantized import Scheme, stacked
from compressit.steps import Notes, StepContext
from compressit.steps._quantizing import QuantizingConfig, chosen, claim, foresee, quantized

__all__ = ["Config", "claim", "foresee", "run"]


SLAB = 1 << 20
"""Weights that are rounded at once."""


class Config(QuantizingConfig):
    """Fields of the step."""

    clip: Literal["none", "mse"] = "none"
    """Whether to search for the range of least squared error instead of taking all of it."""
    activations: Literal["none", "int8"] = "none"
    """Quantize the layers' inputs too, each token by its own largest value when it comes."""

    @model_validator(mode="after")
    def _format_holds_it(self) -> Config:
        if self.activations == "int8" and (self.bits != 8 or self.group_size is not None):
            raise ValueError("activations: int8 goes with bits: 8 and one scale for each channel (no group_size)")
        return self

    @property
    def searches(self) -> bool:
        """Whether ranges of least error are searched for."""
        return self.clip == "mse"

    @property
    def scheme(self) -> Scheme:
        """How weights and activations are stored."""
        return Scheme(self.bits, self.group_size, self.symmetric, self.activations == "int8")


def run(model: Model, config: Config, context: StepContext) -> Notes:
    """Round part by part; weights are stored as integers when the model is saved."""
    matrices = chosen(model, config)
    lost = power = 0.0
    with context.progress.bar(config.step, len(matrices)) as advance:
        for part in visits(model, matrices, context.scratch):
            for matrix in part.within(matrices):
                error, energy = _quantize(part, matrix, config)
                lost, power = lost + error, power + energy
                advance(1)
    if config.scheme.activations and model.disk is None:
        _round_activations(model, matrices)
    # A run that went on knows nothing of what the killed one had done.
    return (
        {"layers": len(matrices), "relative_error": float(f"{lost / power:.3g}")}
        if power
        else {"layers": len(matrices)}
    )


def _quantize(part: Part, matrix: Matrix, config: Config) -> tuple[float, float]:
    """Round one matrix; give the squared error and the squared weights."""
    import torch

    weight_OI = part.weight(matrix)
    if not bool(torch.isfinite(weight_OI).all()):
        raise StepError(f"{matrix.name} holds weights that are not finite")
    dtype = part.tensors[matrix.parameter].dtype
    found, error = [], 0.0
    # Rows know nothing of each other: a few at a time keep what is made on the way small.
    for rows_OI in weight_OI.split(max(1, SLAB // weight_OI.shape[1])):
        rounded = nearest(rows_OI, config.grid(dtype))
        error += float((rounded.weight_OI - rows_OI).square_().sum())
        found.append(quantized(rounded, config.scheme, dtype))
    part.quantize(matrix, stacked(found))
    return error, float(weight_OI.square().sum())


def _round_activations(model: Model, matrices: dict[str, Matrix]) -> None:
    """Have the module in memory compute as the saved one will."""
    from compressed_tensors.quantization import (
        QuantizationArgs,
        QuantizationScheme,
        QuantizationStatus,
        initialize_module_for_quantization,
    )

    inputs = QuantizationArgs(num_bits=8, symmetric=True, strategy="token", dynamic=True)
    for name in matrices:
        layer = model.module.get_submodule(name)
        initialize_module_for_quantization(layer, QuantizationScheme(targets=["Linear"], input_activations=inputs))
        layer.quantization_status = QuantizationStatus.FROZEN
