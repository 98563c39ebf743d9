"""What all steps that quantize weights share: fields, what the plan foresees, what the saved file must hold."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal, TypeVar

from pydantic import Field, model_validator

from compressit import anatomy, checkpoint, intake, machine, model
from compressit.algorithms.gptq import Grid, Rounded
from compressit.errors import RecipeError
from compressit.model.matrices import Matrix
from compressit.model.quantized import Quantized, Scheme
from compressit.spec import Spec
from compressit.steps import Dial, Fact, Need, StepConfig
from compressit.weights import Weight, Weights

if TYPE_CHECKING:
    from typing import Self

    import torch


WIDTHS = (2, 3, 4, 5, 6, 8)


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


class Rule(Spec):
    """Other settings for some layers."""

    layers: tuple[str, ...] = Field(min_length=1)
    """Glob patterns of the layers that it is for."""
    bits: int | None = Field(None, ge=2, le=8)
    """Bits of a weight (default: as of the other layers)."""
    group_size: Annotated[int, Field(gt=1)] | Literal["channel"] | None = None
    """Consecutive inputs that share a scale, or `channel` for one scale for each output (default: as of the others)."""

    @model_validator(mode="after")
    def _says_something(self) -> Rule:
        if self.bits is None and self.group_size is None:
            raise ValueError("a rule says bits, group_size or both")
        return self


class QuantizingConfig(StoringConfig):
    """Fields of every step that rounds weights to integers."""

    bits: int = Field(8, ge=2, le=8)
    """Bits of a weight."""
    group_size: int | None = Field(None, gt=1)
    """Consecutive inputs that share a scale (default: all inputs of an output channel)."""
    symmetric: bool = True
    """Leave out zero points."""
    rules: tuple[Rule, ...] = ()
    """Layers with other `bits` or `group_size`: `{layers: ["*down_proj"], bits: 8}`; of two rules for a layer the first
    holds."""
    average_bits: float | None = Field(default=None, gt=2, lt=16)
    """In place of `bits`: what a quantized weight may take on average, scales and all else that is stored with it
    counted. Each layer gets one of `widths`: more where the model's answers feel it more, as some calibration rows say
    in passes for each layer by itself. What runtimes lay into one matrix (queries, keys and values; a gate and what it
    lets through; all experts) gets the same."""
    widths: tuple[Annotated[int, Field(ge=2, le=8)], ...] = Field(default=WIDTHS, min_length=2)
    """Bits that `average_bits` chooses from. vLLM serves 4 and 8."""

    @model_validator(mode="after")
    def _one_way_to_say_bits(self) -> QuantizingConfig:
        if self.average_bits is not None and (self.rules or "bits" in self.model_fields_set):
            raise ValueError("average_bits stands in place of bits and rules")
        if list(self.widths) != sorted(set(self.widths)):
            raise ValueError("widths rise: [3, 4, 6]")
        if (self.rules or self.average_bits is not None) and not self.symmetric:
            raise ValueError("plain transformers opens layers of different bits without zero points: symmetric: true")
        return self

    def idle(self) -> Mapping[str, str]:
        """Name what a budget chooses from, where there is none."""
        return {**super().idle(), **({} if self.average_bits else {"widths": "average_bits"})}

    def needs(self) -> frozenset[Need]:
        """Ask for calibration data where a budget is spent by what is measured."""
        return super().needs() | (frozenset() if self.average_bits is None else frozenset({Need.CALIBRATION}))

    def streaming(self) -> bool:
        """Need the whole model where all of it is asked what a layer matters."""
        return self.average_bits is None

    def dial(self, table: Weights | None) -> Dial:
        """Turn the bits: at a share of 0 there are 8 of them."""
        if self.average_bits is not None:
            least = self.widths[0] + 1
            return Dial("average_bits", 1 - self.average_bits / 8, lambda share: max(least, round(8 * (1 - share), 2)))
        return Dial("bits", 1 - self.bits / 8, lambda share: max(2, round(8 * (1 - share))))

    @property
    def searches(self) -> bool:
        """Whether ranges of least error are searched for."""
        return False

    @property
    def scheme(self) -> Scheme:
        """How weights are stored."""
        return Scheme(self.bits, self.group_size, self.symmetric)

    def at(self, bits: int | None = None, group_size: int | Literal["channel"] | None = None) -> Self:
        """Give the settings of a layer by itself."""
        size = self.group_size if group_size is None else None if group_size == "channel" else group_size
        more = {"bits": bits or self.bits, "group_size": size, "rules": (), "average_bits": None}
        return self.model_copy(update=more)

    def grid(self, dtype: torch.dtype) -> Grid:
        """What weights stored in a type are rounded to."""
        return Grid(self.bits, self.group_size, self.symmetric, self.searches, dtype)


Config = TypeVar("Config", bound=QuantizingConfig)


def by_rules(config: Config, names: Sequence[str]) -> dict[str, Config]:
    """Give each layer its own settings, as the rules say.

    Raises:
        RecipeError: a rule matches no layer.
    """
    own = dict.fromkeys(names, config.at())
    for rule in reversed(config.rules):
        for name in model.matching(names, rule.layers, (), default=lambda name: False):
            own[name] = config.at(rule.bits, rule.group_size)
    return own


def _schemes(config: StoringConfig, names: Sequence[str]) -> dict[str, Scheme]:
    """Say how each layer is stored; where a budget decides, with the fewest bits."""
    if not isinstance(config, QuantizingConfig):
        return dict.fromkeys(names, config.scheme)
    fewest = config if config.average_bits is None else config.at(config.widths[0])
    return {name: own.scheme for name, own in by_rules(fewest, names).items()}


def chosen(of: model.Model, config: StoringConfig) -> dict[str, Matrix]:
    """Pick the matrices to quantize.

    Raises:
        RecipeError: the format can't hold one of them, or plain transformers could not open what is saved.
        MissingExtra: compressed-tensors is not installed.
    """
    machine.need(config.packages())
    found = of.matrices(config.include, config.exclude)
    schemes = _schemes(config, list(found))
    _check_opens(config, of.module.config.model_type, of.matrices(("*",)), schemes)
    state = of.module.state_dict(keep_vars=True)
    for matrix in found.values():
        _check(schemes[matrix.name], matrix.name, *matrix.of(state).shape, transposed=matrix.transposed)
    return found


def quantized(found: Rounded, scheme: Scheme, dtype: torch.dtype) -> Quantized:
    """Store a result of the maths: integers as such, scales in the type that the weights had."""
    import torch

    zero_OG = None if scheme.symmetric else found.zero_OG.to(torch.int8).cpu()
    return Quantized(scheme, found.whole_OI.to(torch.int8).cpu(), found.scale_OG.to(dtype).cpu(), zero_OG)


def schemes(before: Weights, config: StoringConfig) -> dict[str, Scheme]:
    """Say how each of the layers will be stored; where a budget decides, with the fewest bits."""
    picked = model.matching(list(before.linears()), config.include, config.exclude, default=before.inside_blocks)
    return _schemes(config, picked)


def foresee(before: Weights, config: StoringConfig) -> Weights:
    """Give the layers' weights their bits, scales included."""
    linears, each = before.linears(), schemes(before, config)
    _check_opens(config, before.model_type, linears, each)
    average = config.average_bits if isinstance(config, QuantizingConfig) else None
    stored = {}
    for name, scheme in each.items():
        outputs, inputs = linears[name].shape
        _check(scheme, name, outputs, inputs, transposed=anatomy.is_transposed(before.model_type))
        stored[f"{name}.weight"] = average or scheme.bits_per_weight(inputs, linears[name].bits)
    if average:
        layers = [(scheme, linears[name]) for name, scheme in each.items()]
        sizes = [(scheme, layer.shape[0], layer.shape[1], layer.bits) for scheme, layer in layers]
        afforded(average, sizes)
    return before.changed(_with_bits(tensor, stored) for tensor in before.tensors)


def afforded(average: float, layers: Sequence[tuple[Scheme, int, int, float]]) -> float:
    """Give the bits that all layers together may take, with all that is stored beside them.

    Args:
        average: Bits that a weight may take.
        layers: Of each the scheme of fewest bits, outputs, inputs, and bits of a scale.

    Raises:
        RecipeError: even with the fewest bits they would take more.
    """
    count = sum(outputs * inputs for _, outputs, inputs, _ in layers)
    least = sum(scheme.packed_bits(outputs, inputs, beside) for scheme, outputs, inputs, beside in layers)
    if least > average * count:
        raise RecipeError(
            f"average_bits is {average:g}, and {layers[0][0].bits} bits with their scales take {least / count:.2f}",
            hint="ask for more, choose a larger group_size, or let widths begin with fewer bits",
        )
    return average * count


def claim(folder: Path, config: StoringConfig) -> str | None:
    """Find out how the saved files hold the layers."""
    described = intake.described(folder)
    scheme = checkpoint.quantization(described)
    if scheme is None:
        return "config.json names no quantization"
    said, wanted = scheme["input_activations"], config.scheme.activations
    if (None if said is None else "dynamic" if said["dynamic"] else "static") != wanted:
        return f"config.json says {said} of activations, not {wanted or 'none'}"
    held = {stored.name.removesuffix(".weight"): stored.kind for stored in checkpoint.tensors(folder)}
    if not isinstance(config, QuantizingConfig):
        return None if config.scheme.kind in held.values() else f"weights are {', '.join(sorted({*held.values()}))}"
    layers = [name for name, kind in held.items() if kind.startswith("int")]
    if not layers:
        return f"weights are {', '.join(sorted({*held.values()}))}"
    if config.average_bits is not None:
        taken = checkpoint.average_bits(folder)
        return None if taken <= config.average_bits else f"a weight takes {taken:.3f} bits, not {config.average_bits}"
    schemes = _schemes(config, layers)
    off = next((name for name in layers if held[name] != schemes[name].kind), None)
    return None if off is None else f"{off} is {held[off]}, not {schemes[off].kind}"


def _with_bits(tensor: Weight, stored: Mapping[str, float]) -> Any:
    return replace(tensor, bits=stored[tensor.name]) if tensor.name in stored else tensor


def _check_opens(config: StoringConfig, model_type: str, every: Iterable[str], schemes: Mapping[str, Scheme]) -> None:
    """Raise RecipeError for what the format holds and plain transformers could not open again."""
    scheme, known = config.scheme, anatomy.known(model_type)
    if known.unreadable:
        raise RecipeError(
            f"plain transformers can't open a {model_type} that is quantized: {known.unreadable}",
            hint="leave this step out; its export to onnx takes int8 weights: exports: [{export: onnx, weights: int8}]",
        )
    spent = isinstance(config, QuantizingConfig) and config.average_bits is not None
    if known.unmixed and (spent or len({*schemes.values()}) > 1):
        raise RecipeError(
            f"plain transformers can't open a {model_type} with layers of different bits: {known.unmixed}",
            hint="give all layers the same: bits and group_size, without rules",
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
    if experts and scheme.rows:
        raise RecipeError("plain transformers can't open experts in fp8_block", hint="fp8 it can: format: fp8")
    # Its reader of experts drops those that are floats once config.json names a quantization.
    if left := [name for name in experts if name not in schemes]:
        raise RecipeError(
            f"plain transformers can't open experts that aren't quantized in a model that is, as {left[0]} would be",
            hint="include all experts and exclude none, or leave this step out",
        )
    if len({schemes[name] for name in experts}) > 1:
        raise RecipeError(
            "plain transformers can't open experts of different bits",
            hint='a rule for all of them: layers: ["*experts*"]',
        )


def _check(scheme: Scheme, name: str, outputs: int, inputs: int, *, transposed: bool) -> None:
    if transposed:
        raise RecipeError(
            f"{name} keeps its weights transposed, in a layer that the compressed-tensors format does not know",
            hint="this architecture can be pruned and exported to onnx with int8 weights, not quantized by a step",
        )
    scheme.check(name, outputs, inputs)
