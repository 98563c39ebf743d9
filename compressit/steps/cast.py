"""Store the weights in 16 bits.

bfloat16 keeps float32's range at less precision; float16 keeps more precision in a narrower range, and a weight that
does not fit it is an error. On a CPU it halves the size and may not be faster.

Recipe::

    - step: cast
      dtype: bfloat16
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import ClassVar, Literal

from compressit import anatomy, weights
from compressit import model as models
from compressit.errors import RecipeError, StepError
from compressit.model import Model
from compressit.steps import Fact, Notes, StepConfig, StepContext
from compressit.weights import Weights

STORED = {"bfloat16": "BF16", "float16": "F16"}


class Config(StepConfig):
    """Fields of the step."""

    makes: ClassVar[frozenset[Fact]] = frozenset({Fact.DTYPE})
    keeps: ClassVar[frozenset[Fact]] = frozenset({Fact.SHAPES, Fact.SPARSITY, Fact.FACTORS})

    dtype: Literal["bfloat16", "float16"] = "bfloat16"
    """Type of the weights."""


def run(model: Model, config: Config, context: StepContext) -> Notes:
    """Cast in place."""
    import torch

    check(model.module.config.model_type)
    dtype = getattr(torch, config.dtype)
    largest = torch.finfo(dtype).max
    for name, weight in model.module.named_parameters():
        if not bool((weight.abs() <= largest).all()):
            raise StepError(
                f"{name} holds {weight.abs().max():.3g}, beyond {config.dtype}'s {largest:.3g}",
                hint="dtype: bfloat16 has the range of float32",
            )
    models.cast(model.module, dtype)
    return {"dtype": config.dtype}


def foresee(before: Weights, config: Config) -> Weights:
    """Give every float 16 bits."""
    check(before.model_type)
    return before.changed(replace(tensor, bits=min(tensor.bits, 16)) for tensor in before.tensors)


def check(model_type: str) -> None:
    """Raise RecipeError for an architecture that would not take its inputs any more."""
    if anatomy.raw(model_type):
        raise RecipeError(
            f"a {model_type} convolves what it is given as it comes, in float32: weights in 16 bits would not fit",
            hint="export it with weights: int8",
        )


def claim(folder: Path, config: Config) -> str | None:
    """Find a tensor in the saved files that is not of the type."""
    for file in folder.glob("*.safetensors"):
        for name, entry in weights.header(file).items():
            if name != "__metadata__" and entry["dtype"] in ("F32", "F64"):
                return f"{name} is stored as {entry['dtype']}, not {STORED[config.dtype]}"
    return None
