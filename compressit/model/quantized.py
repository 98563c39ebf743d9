"""A weight matrix as integers or small floats on a grid, and how compressed-tensors stores it."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import TYPE_CHECKING, Any, Literal

from compressit.algorithms import floats
from compressit.errors import RecipeError

if TYPE_CHECKING:
    import torch

Number = Literal["int", "fp8", "nvfp4", "mxfp4"]
FORMATS = {"fp8": "float-quantized", "nvfp4": "nvfp4-pack-quantized", "mxfp4": "mxfp4-pack-quantized"}
"""What compressed-tensors calls the formats of floats."""


@dataclass(frozen=True)
class Scheme:
    """How matrices are quantized.

    Attributes:
        bits: Of a weight.
        group_size: Consecutive inputs that share a scale; None where all of a row do.
        symmetric: Zero is the integer 0.
        activations: Inputs are rounded too, "dynamic" where each token's scale is that of its own largest
            value when it comes, "static" where all tokens' is one that was found beforehand; None where they are not.
        number: What weights, and activations, are rounded to: integers, or floats of 8 or 4 bits.
        rows: Consecutive outputs that share scales too, the last ones of a matrix maybe fewer; the inputs of a token
            are then scaled in groups of as many as weights are. None where each output has its own.
        input_bits: Of an input, where they are rounded.
    """

    bits: int
    group_size: int | None = None
    symmetric: bool = True
    activations: Literal["dynamic", "static"] | None = None
    number: Number = "int"
    rows: int | None = None
    input_bits: int = 8

    @property
    def packed(self) -> bool:
        """Whether integers are packed into 32-bit words; otherwise each takes a byte."""
        return self.number == "int" and not self.activations

    @property
    def kind(self) -> str:
        """What a weight is stored as, in a word."""
        return f"int{self.bits}" if self.number == "int" else self.number

    def check(self, name: str, outputs: int, inputs: int) -> None:
        """Raise RecipeError for a matrix that the format can't hold."""
        if inputs % (self.group_size or 1):
            if self.number == "int":
                problem, remedy = f"group_size {self.group_size}", "choose another group_size, or leave that layer out"
            else:
                problem, remedy = f"the {self.group_size} inputs that share a scale of {self.number}", "leave that out"
            does = "does" if self.number == "int" else "do"
            raise RecipeError(
                f"{problem} {does} not divide the {inputs} inputs of {name}", hint=f"{remedy}: exclude: [...]"
            )
        # compressed-tensors can't read zero points back that fill no more than one word.
        if not self.symmetric and self.packed and outputs * self.bits <= 32:
            raise RecipeError(
                f"the zero points of {name}, which has {outputs} outputs, can't be stored",
                hint="symmetric: true has none; or leave that layer out: exclude: [...]",
            )

    def bits_per_weight(self, inputs: int, float_bits: float) -> float:
        """Count bits, scales and zero points included."""
        scale = 8 if self.number in ("nvfp4", "mxfp4") else float_bits
        beside = scale + (0 if self.symmetric else self.bits if self.packed else 8)
        own = self.bits if self.packed or self.number != "int" else 8
        return own + beside / (self.group_size or inputs) / (self.rows or 1)

    def packed_bits(self, outputs: int, inputs: int, float_bits: float) -> float:
        """Count all bits that a matrix of packed integers without zero points takes: whole words, scales, its shape."""
        assert self.packed, "bytes are counted otherwise"
        words = -(-inputs * self.bits // 32) * 32
        return outputs * words + outputs * (inputs // (self.group_size or inputs)) * float_bits + 2 * 64


@dataclass(frozen=True)
class Quantized:
    """Numbers of a matrix on their grid; w = (whole - zero) * scale.

    Attributes:
        whole_OI: int8; float8_e4m3fn for floats of 8 bits; for those of 4 bits twice their value, as int8.
        scale_OG: In the type that the matrix had, whatever it is stored as; where outputs share them, (R, G).
        zero_OG: int8; None where the scheme is symmetric.
        over: What all scales of nvfp4 are divided by, (1,), float32; None elsewhere.
        inputs: The scale of the matrix's inputs, (1,), where it was found beforehand; None elsewhere.
    """

    scheme: Scheme
    whole_OI: torch.Tensor
    scale_OG: torch.Tensor
    zero_OG: torch.Tensor | None = None
    over: torch.Tensor | None = None
    inputs: torch.Tensor | None = None

    @property
    def weight_OI(self) -> torch.Tensor:
        """Read it back, in the arithmetic that compressed-tensors uses."""
        if self.scheme.number in ("nvfp4", "mxfp4"):
            return floats.read_back(self.whole_OI, self.scale_OG, self.over).to(self.scale_OG.dtype)
        scale_OG = floats.of_rows(self.scale_OG, len(self.whole_OI), self.scheme.rows)
        groups_OGS = self.whole_OI.unflatten(-1, (scale_OG.shape[-1], -1)).to(scale_OG.dtype)
        if self.zero_OG is not None:
            groups_OGS = groups_OGS - self.zero_OG[..., None].to(scale_OG.dtype)
        return (groups_OGS * scale_OG[..., None]).flatten(-2)

    def stored(self) -> dict[str, torch.Tensor]:
        """Lay it out as compressed-tensors does: names below the layer's own."""
        import torch
        from compressed_tensors.compressors.pack_quantized.helpers import pack_to_int32

        beside = {"weight_scale": self.scale_OG}
        if self.inputs is not None:
            beside["input_scale"] = self.inputs
        if self.scheme.number == "nvfp4":
            assert self.over is not None, "all scales are divided by it"
            scales = {"weight_scale": self.scale_OG.to(torch.float8_e4m3fn), "weight_global_scale": self.over}
            return {"weight_packed": floats.packed(self.whole_OI), **scales}
        if self.scheme.number == "mxfp4":
            return {"weight_packed": floats.packed(self.whole_OI), "weight_scale": floats.exponents(self.scale_OG)}
        if not self.scheme.packed:
            points = {} if self.zero_OG is None else {"weight_zero_point": self.zero_OG}
            return {"weight": self.whole_OI, **beside, **points}
        if self.zero_OG is not None:
            beside["weight_zero_point"] = pack_to_int32(self.zero_OG, self.scheme.bits, packed_dim=0).contiguous()
        shape = torch.tensor(self.whole_OI.shape)
        return {"weight_packed": pack_to_int32(self.whole_OI, self.scheme.bits), "weight_shape": shape, **beside}


def stacked(parts: Sequence[Quantized]) -> Quantized:
    """Put rows that were quantized apart one below the other."""
    import torch

    zeros = [part.zero_OG for part in parts if part.zero_OG is not None]
    return replace(
        parts[0],
        whole_OI=torch.cat([part.whole_OI for part in parts]),
        scale_OG=torch.cat([part.scale_OG for part in parts]),
        zero_OG=torch.cat(zeros) if zeros else None,
    )


def config(
    schemes: Mapping[Scheme, Sequence[str]], left: Sequence[str], cache: Mapping[str, Any] | None = None
) -> dict[str, Any]:
    """Describe how layers are quantized for config.json.

    Args:
        schemes: With the layers that each is for: names, or "re:" and a regular expression. Where there is one scheme,
            it is for all layers but those left.
        left: Names of layers that keep their weights.
        cache: How the keys and values that a runtime keeps are rounded; None where they are not.
    """
    import compressed_tensors
    from compressed_tensors.quantization import QuantizationConfig, QuantizationScheme

    groups = {
        f"group_{number}": QuantizationScheme(
            targets=list(names) if len(schemes) > 1 else ["Linear"],
            weights=_weights(scheme),
            input_activations=activations(scheme),
            format=_format(scheme),
        )
        for number, (scheme, names) in enumerate(schemes.items())
    }
    formats = {_format(scheme) for scheme in schemes} or {"dense"}
    described = QuantizationConfig(
        config_groups=groups,
        format=formats.pop() if len(formats) == 1 else "mixed-precision",
        quantization_status="compressed",
        ignore=list(left),
        kv_cache_scheme=cache,
    )
    found: dict[str, Any] = json.loads(described.model_dump_json())
    found["version"] = compressed_tensors.__version__
    if len(schemes) == 1 and not next(iter(schemes)).activations:
        # Some architectures, and zero points, can't wait for the first forward to be unpacked; but what unpacks them
        # earlier takes all layers to be of the first scheme.
        found["dequantize"] = True
    return found


def _format(scheme: Scheme) -> str:
    return FORMATS.get(scheme.number) or ("pack-quantized" if scheme.packed else "int-quantized")


def activations(scheme: Scheme) -> Any:
    """Describe to compressed-tensors how inputs are rounded; None where they are not."""
    from compressed_tensors.quantization import QuantizationArgs

    if scheme.activations is None:
        return None
    how: dict[str, Any] = {"strategy": "tensor"}
    if scheme.rows:
        how = {"strategy": "group", "dynamic": True, "group_size": scheme.group_size}
    elif scheme.activations == "dynamic":
        how = {"strategy": "token", "dynamic": True}
    kind = "int" if scheme.number == "int" else "float"
    return QuantizationArgs(num_bits=scheme.input_bits, type=kind, symmetric=True, **how)


def _weights(scheme: Scheme) -> Any:
    import torch
    from compressed_tensors.quantization import QuantizationArgs

    if scheme.number in ("nvfp4", "mxfp4"):
        grouped, stored = ("tensor_group", torch.float8_e4m3fn) if scheme.number == "nvfp4" else ("group", torch.uint8)
        more = {"scale_dtype": stored, "zp_dtype": stored}
        return QuantizationArgs(
            num_bits=4, type="float", symmetric=True, group_size=scheme.group_size, strategy=grouped, **more
        )
    if scheme.rows:
        blocks = [scheme.rows, scheme.group_size]
        return QuantizationArgs(num_bits=8, type="float", symmetric=True, strategy="block", block_structure=blocks)
    return QuantizationArgs(
        num_bits=scheme.bits,
        type="int" if scheme.number == "int" else "float",
        symmetric=scheme.symmetric,
        group_size=scheme.group_size,
        strategy="group" if scheme.group_size else "channel",
    )


def to_file(name: str, found: Quantized) -> tuple[dict[str, torch.Tensor], str]:
    """Lay it out for a file of our own, integers unpacked: tensors, and the scheme as JSON."""
    held = {"whole": found.whole_OI, "scale": found.scale_OG, "zero": found.zero_OG, "over": found.over,
            "inputs": found.inputs}  # fmt: skip
    tensors = {f"{name}.{leaf}": tensor for leaf, tensor in held.items() if tensor is not None}
    return tensors, json.dumps(asdict(found.scheme))


def from_file(name: str, scheme: str, tensors: Mapping[str, torch.Tensor]) -> Quantized:
    """Read back what `to_file` laid out."""
    leaves = (tensors.get(f"{name}.{leaf}") for leaf in ("zero", "over", "inputs"))
    return Quantized(Scheme(**json.loads(scheme)), tensors[f"{name}.whole"], tensors[f"{name}.scale"], *leaves)
