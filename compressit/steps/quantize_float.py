"""Round the weights of the linear layers to floats of 8 or 4 bits, for hardware that multiplies these.

`fp8` (E4M3, Micikevicius et al. 2022, arXiv:2209.05433) has a scale for each output, and loses next to nothing;
`fp8_block` one for each block of 128 outputs by 128 inputs, and with `activations: fp8` one for each 128 inputs of a
token when it comes, as DeepSeek-V3 was trained (2024, arXiv:2412.19437). 128 has to divide a layer's inputs, not its
outputs. Floats of 4 bits share scales: `nvfp4` a float of 8 bits among 16 inputs, `mxfp4` a power of two among 32 (Open
Compute Project 2023). The scale of each group is the one that loses least of some, not simply that of its largest
weight. No data, no training, seconds. The checkpoint is saved in the compressed-tensors format, which plain
transformers and vLLM open; in plain PyTorch on a CPU it is smaller, not faster.

Recipe::

    - step: quantize_float
      format: fp8
"""

from __future__ import annotations

from dataclasses import replace
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

BLOCK = 128
FORMATS = {
    "fp8": Scheme(8, None, number="fp8"),
    "fp8_block": Scheme(8, BLOCK, number="fp8", rows=BLOCK),
    "nvfp4": Scheme(4, 16, number="nvfp4"),
    "mxfp4": Scheme(4, 32, number="mxfp4"),
}


class Config(RoundingConfig, StoringConfig):
    """Fields of the step."""

    format: Literal["fp8", "fp8_block", "nvfp4", "mxfp4"]
    """What weights are rounded to."""
    activations: Literal["none", "fp8"] = "none"
    """Quantize the layers' inputs too, where weights are fp8."""

    @model_validator(mode="after")
    def _format_holds_it(self) -> Config:
        if self.activations == "fp8" and FORMATS[self.format].number != "fp8":
            raise ValueError("activations: fp8 goes with format: fp8 or fp8_block")
        if self.scales == "static" and self.format == "fp8_block":
            raise ValueError("scales: static goes with format: fp8, which has one scale for all inputs")
        return self

    @property
    def rounds_inputs(self) -> bool:
        """Whether the layers' inputs are rounded, too."""
        return self.activations != "none"

    @property
    def scheme(self) -> Scheme:
        """How weights and activations are stored."""
        return replace(FORMATS[self.format], activations=None if self.activations == "none" else self.scales)


def run(model: Model, config: Config, context: StepContext) -> Notes:
    """Round part by part; weights are stored as floats of fewer bits when the model is saved."""

    def rounded(matrix: Matrix, weight_OI: torch.Tensor, dtype: torch.dtype) -> Quantized:
        over = None
        if config.format == "fp8":
            whole_OI, scale_OG = floats.to_fp8(weight_OI, dtype)
        elif config.format == "fp8_block":
            whole_OI, scale_OG = floats.to_fp8_blocks(weight_OI, dtype, BLOCK)
        elif config.format == "mxfp4":
            whole_OI, scale_OG = floats.to_mxfp4(weight_OI, dtype)
        else:
            whole_OI, scale_OG, over = floats.to_nvfp4(weight_OI)
            over = over.cpu()
        return Quantized(config.scheme, whole_OI.cpu(), scale_OG.to(dtype).cpu(), over=over)

    return round_each(model, chosen(model, config), config, context, rounded)
