"""Round the weights of the linear layers to integers, and optionally activations too as they come.

Round-to-nearest: no data, no training, seconds. int8 by channel loses next to nothing; int4 wants groups, and
`clip: mse` where groups are large (a search for the range of least squared error, Frantar et al. 2023,
arXiv:2210.17323). The checkpoint is saved in the compressed-tensors format, which plain transformers opens. In plain
PyTorch on a CPU it is smaller, not faster: for speed there, export to ONNX with int8 weights.

Recipe::

    - step: quantize_rtn
      bits: 8
"""

from __future__ import annotations

import json
from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from pydantic import Field, model_validator

from compressit import checkpoint, model
from compressit.algorithms import rounding
from compressit.errors import MissingExtra, RecipeError, StepError
from compressit.model import Model
from compressit.steps import Fact, Notes, StepConfig, StepContext
from compressit.weights import Weights

if TYPE_CHECKING:
    from torch import nn


class Config(StepConfig):
    """Fields of the step."""

    makes: ClassVar[frozenset[Fact]] = frozenset({Fact.QUANTIZATION})
    keeps: ClassVar[frozenset[Fact]] = frozenset({Fact.SHAPES, Fact.SPARSITY, Fact.DTYPE})

    bits: Literal[4, 8] = 8
    """Bits of a weight."""
    group_size: int | None = Field(None, ge=8)
    """Consecutive inputs that share a scale (default: all inputs of an output channel)."""
    symmetric: bool = True
    """Leave out zero points."""
    clip: Literal["none", "mse"] = "none"
    """Whether to search for the range of least squared error instead of taking all of it."""
    activations: Literal["none", "int8"] = "none"
    """Quantize the layers' inputs too, each token by its own largest value when it comes."""
    include: tuple[str, ...] = ()
    """Glob patterns of layers to quantize (default: every linear layer inside the blocks)."""
    exclude: tuple[str, ...] = ()
    """Glob patterns of layers to leave alone."""

    @model_validator(mode="after")
    def _format_holds_it(self) -> Config:
        if self.activations == "int8" and (self.bits != 8 or self.group_size is not None):
            raise ValueError("activations: int8 goes with bits: 8 and one scale for each channel (no group_size)")
        return self


def run(model: Model, config: Config, context: StepContext) -> Notes:
    """Attach scales, and the forward pass that rounds; the weights are stored as integers when the model is saved."""
    if find_spec("compressed_tensors") is None:
        raise MissingExtra("compressed-tensors", "quantization")
    layers = model.linears(config.include, config.exclude)
    scheme = _scheme(config)
    lost = power = 0.0
    with context.progress.bar(config.step, len(layers)) as advance:
        for name, layer in layers.items():
            error, energy = _quantize(name, layer, config, scheme)
            lost, power = lost + error, power + energy
            advance(1)
    return {"layers": len(layers), "relative_error": float(f"{lost / max(power, 1e-30):.3g}")}


def foresee(before: Weights, config: Config) -> Weights:
    """Give the layers' weights their bits, scales included."""
    linears = before.linears()
    chosen = set(model.matching(list(linears), config.include, config.exclude, default=before.inside_blocks))

    def stored(weight: Any) -> Any:
        name = weight.name.removesuffix(".weight")
        if name not in chosen or name == weight.name:
            return weight
        size = config.group_size or weight.shape[1]
        if weight.shape[1] % size:
            raise _indivisible(name, weight.shape[1], size)
        if _too_narrow(weight.shape[0], config):
            raise _narrow(name, weight.shape[0])
        beside = weight.bits + (0 if config.symmetric else config.bits)
        return replace(weight, bits=config.bits + beside / size)

    return before.changed(stored(weight) for weight in before.tensors)


def claim(folder: Path, config: Config) -> str | None:
    """Find out how the saved files hold the layers."""
    scheme = checkpoint.quantization(json.loads((folder / "config.json").read_text(encoding="utf-8")))
    if scheme is None:
        return "config.json names no quantization"
    if (scheme["input_activations"] is not None) != (config.activations == "int8"):
        return f"config.json says {scheme['input_activations']} of activations, not {config.activations}"
    held = {stored.kind for stored in checkpoint.tensors(folder)}
    return None if f"int{config.bits}" in held else f"weights are stored as {', '.join(sorted(held))}"


def _scheme(config: Config) -> Any:
    from compressed_tensors.quantization import QuantizationArgs, QuantizationScheme

    weights = QuantizationArgs(
        num_bits=config.bits,
        symmetric=config.symmetric,
        group_size=config.group_size,
        strategy="group" if config.group_size else "channel",
    )
    inputs = QuantizationArgs(num_bits=8, symmetric=True, strategy="token", dynamic=True)
    return QuantizationScheme(
        targets=["Linear"],
        weights=weights,
        input_activations=inputs if config.activations == "int8" else None,
        format="int-quantized" if config.activations == "int8" else "pack-quantized",
    )


def _quantize(name: str, layer: nn.Linear, config: Config, scheme: Any) -> tuple[float, float]:
    """Set one layer's grid; give the squared error and the squared weights."""
    import torch
    from compressed_tensors.quantization import QuantizationStatus, initialize_module_for_quantization

    weight = layer.weight.detach().float()
    if not bool(torch.isfinite(weight).all()):
        raise StepError(f"{name} holds weights that are not finite")
    if weight.shape[1] % (config.group_size or 1):
        raise _indivisible(name, weight.shape[1], config.group_size or 1)
    if _too_narrow(weight.shape[0], config):
        raise _narrow(name, weight.shape[0])
    groups = rounding.grouped(weight, config.group_size)
    scale, zero = rounding.grid(
        groups, config.bits, symmetric=config.symmetric, search=config.clip == "mse", dtype=layer.weight.dtype
    )
    initialize_module_for_quantization(layer, scheme)
    layer.weight_scale.data.copy_(scale)
    layer.weight_zero_point.data.copy_(zero)
    layer.quantization_status = QuantizationStatus.FROZEN
    return float(rounding.error(groups, scale, zero, config.bits).sum()), float(weight.square().sum())


def _too_narrow(outputs: int, config: Config) -> bool:
    """Tell whether zero points would fill no more than one 32-bit word, which compressed-tensors can't read back."""
    return not config.symmetric and config.activations == "none" and outputs * config.bits <= 32


def _narrow(name: str, outputs: int) -> RecipeError:
    return RecipeError(
        f"the zero points of {name}, which has {outputs} outputs, can't be stored",
        hint="symmetric: true has none; or leave that layer out: exclude: [...]",
    )


def _indivisible(name: str, inputs: int, size: int) -> RecipeError:
    return RecipeError(
        f"group_size {size} does not divide the {inputs} inputs of {name}",
        hint="choose another group_size, or leave that layer out: exclude: [...]",
    )
