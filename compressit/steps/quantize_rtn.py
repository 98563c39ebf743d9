"""Round the weights of the linear layers to integers, and optionally activations too.

Round-to-nearest: no data, no training, seconds. int8 by channel loses next to nothing; int4 wants groups, and
`clip: mse` where groups are large (a search for the range of least squared error, Frantar et al. 2023,
arXiv:2210.17323). The checkpoint is saved in the compressed-tensors format, which plain transformers opens. In plain
PyTorch on a CPU it is smaller, not faster: for speed there, export to ONNX or OpenVINO with int8 weights.

`activations` rounds what layers are given, too, and plain transformers computes so; vLLM serves 8 bits of both.

Layers may differ: `rules` give some of them other bits or groups, and `average_bits` spends a budget where the model's
answers feel it most. Plain transformers opens such a checkpoint too (not of T5 or ModernBERT), and unpacks it at the
first forward; vLLM serves 4 and 8 bits side by side. At 3.25 bits, and scales for 128 inputs, perplexity of a Llama of
6M parameters rises by 4.6% where a budget is spent, by 4.8% with 4 bits for attentions and 3 for the rest, by 7.3% with
4 for the networks' last matrices; with GPTQ by 1.1%, 1.0% and 1.4%, where seeds differ by 0.5
(`tests/benchmarks/bench_steps_lm.py`). So a budget does as well as the better pattern, which nobody has to know then.

Recipe::

    - step: quantize_rtn
      bits: 8
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

from pydantic import model_validator

from compressit.algorithms.gptq import nearest
from compressit.model import Model
from compressit.model.matrices import Matrix
from compressit.model.quantized import Quantized, Scheme, stacked
from compressit.steps import Notes, StepContext
from compressit.steps._bits import counted, settled
from compressit.steps._quantizing import QuantizingConfig, chosen, claim, foresee, quantized
from compressit.steps._rounding import RoundingConfig, round_each

if TYPE_CHECKING:
    import torch

__all__ = ["Config", "claim", "foresee", "run"]


SLAB = 1 << 20
"""Weights that are rounded at once."""


class Config(RoundingConfig, QuantizingConfig):
    """Fields of the step."""

    clip: Literal["none", "mse"] = "none"
    """Whether to search for the range of least squared error instead of taking all of it."""
    activations: Literal["none", "int8", "int4"] = "none"
    """Quantize the layers' inputs too; weights then have as many bits or fewer, and take a byte each on disk."""

    @model_validator(mode="after")
    def _format_holds_it(self) -> Config:
        if self.activations == "int4" and self.bits > 4:
            raise ValueError("activations: int4 goes with bits: 4 or fewer")
        if self.activations != "none" and (self.rules or self.average_bits is not None):
            raise ValueError("activations go with the same bits in every layer, without rules or average_bits")
        return self

    @property
    def rounds_inputs(self) -> bool:
        """Whether the layers' inputs are rounded, too."""
        return self.activations != "none"

    @property
    def searches(self) -> bool:
        """Whether ranges of least error are searched for."""
        return self.clip == "mse"

    @property
    def scheme(self) -> Scheme:
        """How weights and activations are stored."""
        if self.activations == "none":
            return Scheme(self.bits, self.group_size, self.symmetric)
        return Scheme(self.bits, self.group_size, self.symmetric, self.scales, input_bits=int(self.activations[3:]))


def run(model: Model, config: Config, context: StepContext) -> Notes:
    """Round part by part; weights are stored as integers when the model is saved."""
    matrices = chosen(model, config)
    own = settled(model, matrices, config, context)

    def rounded(matrix: Matrix, weight_OI: torch.Tensor, dtype: torch.dtype) -> Quantized:
        # Rows know nothing of each other: a few at a time keep what is made on the way small.
        slabs, each = weight_OI.split(max(1, SLAB // weight_OI.shape[1])), own[matrix.name]
        return stacked([quantized(nearest(rows_OI, each.grid(dtype)), each.scheme, dtype) for rows_OI in slabs])

    return {**round_each(model, matrices, config, context, rounded), **counted(own)}
