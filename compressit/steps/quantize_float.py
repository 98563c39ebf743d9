"""Round the weights of the linear layers to floats of 8 or 4 bits, for hardware that multiplies these.

`fp8` (E4M3, Micikevicius et al. 2022, arXiv:2209.05433) has a scale for each output, and loses next to nothing. Floats
of 4 bits share scales: `nvfp4` a float of 8 bits among 16 inputs, `mxfp4` a power of two among 32 (Open Compute Project
2023). The scale of each group is the one that loses least of some, not simply that of its largest weight. No data, no
training, seconds. The checkpoint is saved in the compressed-tensors format, which plain transformers and vLLM open; in
plain PyTorch on a CPU it is smaller, not faster.

Recipe::

    - step: quantize_float
      format: fp8
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

from pydantic import model_validator

from compressit.algorithms import floats
from compressit.model import Model
from compressit.model.matrices import Matrix
from compressit.model.quantized import Quantized, Scheme
from compressit.steps import Notes, StepContext
from compressit.steps._quantizing import StoringConfig, chosen, claim, foresee
from compressit.steps._rounding import RoundingConfig, round_each

if TYPE_CHECKING:
    import torch

__all__ = ["Config", "claim", "foresee", "run"]

GROUPS = {"fp8": (8, None), "nvfp4": (4, 16), "mxfp4": (4, 32)}
"""Bits, and inputs that share a scale."""


class Config(RoundingConfig, StoringConfig):
    """Fields of the step."""

    format: Literal["fp8", "nvfp4", "mxfp4"]
    """What weights are rounded to."""
    activations: Literal["none", "fp8"] = "none"
    """Quantize the layers' inputs too, where weights are fp8."""

    @model_validator(mode="after")
    def _format_holds_it(self) -> Config:
        if self.activations == "fp8" and self.format != "fp8":
            raise ValueError("activations: fp8 goes with format: fp8")
        if self.activations == "none" and self.scales == "static":
            raise ValueError("scales: static goes with activations: fp8")
        return self

    @property
    def scheme(self) -> Scheme:
        """How weights and activations are stored."""
        bits, size = GROUPS[self.format]
        return Scheme(bits, size, True, None if self.activations == "none" else self.scales, self.format)


def run(model: Model, config: Config, context: StepContext) -> Notes:
    """Round part by part; weights are stored as floats of fewer bits when the model is saved."""

    def rounded(matrix: Matrix, weight_OI: torch.Tensor, dtype: torch.dtype) -> Quantized:
        over = None
        if config.format == "fp8":
            whole_OI, scale_OG = floats.to_fp8(weight_OI, dtype)
        elif config.format == "mxfp4":
            whole_OI, scale_OG = floats.to_mxfp4(weight_OI, dtype)
        else:
            whole_OI, scale_OG, over = floats.to_nvfp4(weight_OI)
            over = over.cpu()
        return Quantized(config.scheme, whole_OI.cpu(), scale_OG.to(dtype).cpu(), over=over)

    return round_each(model, chosen(model, config), config, context, rounded)
