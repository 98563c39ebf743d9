"""What all steps that quantize weights share: fields, what the plan foresees, what the saved file must hold."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from pydantic import Field

from compressit import anatomy, checkpoint, intake, model
from compressit.algorithms.gptq import Grid, Rounded
from compressit.errors import MissingExtra, RecipeError
from compressit.model.matrices import Matrix
from compressit.model.quantized import Quantized, Scheme
from compressit.steps import Dial, Fact, StepConfig
from compressit.weights import Weight, Weights

if TYPE_CHECKING:
    import torch


class StoringConfig(StepConfig):
    """Fields of every step that stores weights in a format of fewer bits."""

    makes: ClassVar[frozenset[Fact]] = frozenset({Fact.QUANTIZATION})
    keeps: ClassVar[frozenset[Fact]] = frozenset({Fact.SHAPES, Fact.SPARSITY, Fact.DTYPE})
    streams: ClassVar[bool] = True

    include: tuple[str, ...] = ()
    """Glob patterns of layers to quantize (default: every linear layer inside the blocks)."""
    exclude: tuple[str, ...] = ()
    """Glob patterns of layers to leave alone."""

    @property
    def scheme(self) -> Scheme:
        """How weights, and activations, are stored."""
        raise NotImplementedError


class QuantizingConfig(StoringConfig):
    """Fields of every step that rounds weights to integers."""

    bits: int = Field(8, ge=2, le=8)
    """Bits of a weight."""
    group_size: int | None = Field(None, gt=1)
    """Consecutive inputs that share a scale (default: all inputs of an output channel)."""
    symmetric: bool = True
    """Leave out zero points."""

    def dial(self, table: Weights | None) -> Dial:
        """Turn the bits: at a share of 0 there are 8 of them."""
        return Dial("bits", 1 - self.bits / 8, lambda share: max(2, round(8 * (1 - share))))

    @property
    def searches(self) -> bool:
        """Whether ranges of least error are searched for."""
        return False

    @property
    def scheme(self) -> Scheme:
        """How weights are stored."""
        return Scheme(self.bits, self.group_size, self.symmetric)

    def grid(self, dtype: torch.dtype) -> Grid:
        """What weights stored in a type are rounded to."""
        return Grid(self.bits, self.group_size, self.symmetric, self.searches, dtype)


def chosen(of: model.Model, config: StoringConfig) -> dict[str, Matrix]:
    """Pick the matrices to quantize.

    Raises:
        RecipeError: the format can't hold one of them, or plain transformers could not open what is saved.
        MissingExtra: compressed-tensors is not installed.
    """
    if find_spec("compressed_tensors") is None:
        raise MissingExtra("compressed-tensors", "quantization")
    found = of.matrices(config.include, config.exclude)
    _check_opens(config.scheme, of.module.config.model_type, of.matrices(("*",)), found)
    state = of.module.state_dict(keep_vars=True)
    for matrix in found.values():
        _check(config.scheme, matrix.name, *matrix.of(state).shape, transposed=matrix.transposed)
    return found


def quantized(found: Rounded, scheme: Scheme, dtype: torch.dtype) -> Quantized:
    """Store a result of the maths: integers as such, scales in the type that the weights had."""
    import torch

    zero_OG = None if scheme.symmetric else found.zero_OG.to(torch.int8).cpu()
    return Quantized(scheme, found.whole_OI.to(torch.int8).cpu(), found.scale_OG.to(dtype).cpu(), zero_OG)


def foresee(before: Weights, config: StoringConfig) -> Weights:
    """Give the layers' weights their bits, scales included."""
    linears = before.linears()
    picked = model.matching(list(linears), config.include, config.exclude, default=before.inside_blocks)
    _check_opens(config.scheme, before.model_type, linears, picked)
    stored = {}
    for name in picked:
        outputs, inputs = linears[name].shape
        _check(config.scheme, name, outputs, inputs, transposed=anatomy.is_transposed(before.model_type))
        stored[f"{name}.weight"] = config.scheme.bits_per_weight(inputs, linears[name].bits)
    return before.changed(_with_bits(tensor, stored) for tensor in before.tensors)


def claim(folder: Path, config: StoringConfig) -> str | None:
    """Find out how the saved files hold the layers."""
    scheme = checkpoint.quantization(intake.described(folder))
    if scheme is None:
        return "config.json names no quantization"
    said, wanted = scheme["input_activations"], config.scheme.activations
    if (None if said is None else "dynamic" if said["dynamic"] else "static") != wanted:
        return f"config.json says {said} of activations, not {wanted or 'none'}"
    held = {stored.kind for stored in checkpoint.tensors(folder)}
    return None if config.scheme.kind in held else f"weights are stored as {', '.join(sorted(held))}"


def _with_bits(tensor: Weight, stored: Mapping[str, float]) -> Any:
    return replace(tensor, bits=stored[tensor.name]) if tensor.name in stored else tensor


def _check_opens(scheme: Scheme, model_type: str, every: Iterable[str], picked: Collection[str]) -> None:
    """Raise RecipeError for what the format holds and plain transformers could not open again."""
    if why := anatomy.known(model_type).unreadable:
        raise RecipeError(
            f"plain transformers can't open a {model_type} that is quantized: {why}",
            hint="leave this step out; its export to onnx takes int8 weights: exports: [{export: onnx, weights: int8}]",
        )
    experts = [name for name in every if anatomy.is_expert(model_type, name)]
    if experts and not scheme.symmetric:
        raise RecipeError("plain transformers can't open experts with zero points", hint="symmetric: true has none")
    if experts and scheme.activations:
        raise RecipeError(
            "plain transformers can't open experts whose activations are rounded",
            hint="leave activations out: their weights can be quantized",
        )
    if experts and scheme.number in ("nvfp4", "mxfp4"):
        raise RecipeError(
            f"plain transformers can't open experts in {scheme.number}", hint="integers of 4 bits it can: quantize_rtn"
        )
    # Its reader of experts drops those that are floats once config.json names a quantization.
    if left := [name for name in experts if name not in picked]:
        raise RecipeError(
            f"plain transformers can't open experts that aren't quantized in a model that is, as {left[0]} would be",
            hint="include all experts and exclude none, or leave this step out",
        )


def _check(scheme: Scheme, name: str, outputs: int, inputs: int, *, transposed: bool) -> None:
    if transposed:
        raise RecipeError(
            f"{name} keeps its weights transposed, in a layer that the compressed-tensors format does not know",
            hint="this architecture can be pruned and exported to onnx with int8 weights, not quantized by a step",
        )
    scheme.check(name, outputs, inputs)
