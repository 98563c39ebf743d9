"""A weight matrix as integers on a grid, and how compressed-tensors stores it."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

from compressit.errors import RecipeError

if TYPE_CHECKING:
    import torch


@dataclass(frozen=True)
class Scheme:
    """How matrices are quantized.

    Attributes:
        group_size: Consecutive inputs that share a scale; None where all of a row do.
        symmetric: Zero is the integer 0.
        activations: Inputs are rounded to 8 bits too, each token by its own largest value when it comes.
    """

    bits: int
    group_size: int | None = None
    symmetric: bool = True
    activations: bool = False

    @property
    def packed(self) -> bool:
        """Whether integers are packed into 32-bit words; otherwise each takes a byte."""
        return not self.activations

    def check(self, name: str, outputs: int, inputs: int) -> None:
        """Raise RecipeError for a matrix that the format can't hold."""
        if inputs % (self.group_size or 1):
            raise RecipeError(
                f"group_size {self.group_size} does not divide the {inputs} inputs of {name}",
                hint="choose another group_size, or leave that layer out: exclude: [...]",
            )
        # compressed-tensors can't read zero points back that fill no more than one word.
        if not self.symmetric and self.packed and outputs * self.bits <= 32:
            raise RecipeError(
                f"the zero points of {name}, which has {outputs} outputs, can't be stored",
                hint="symmetric: true has none; or leave that layer out: exclude: [...]",
            )

    def bits_per_weight(self, inputs: int, float_bits: float) -> float:
        """Count bits, scales and zero points included."""
        beside = float_bits + (0 if self.symmetric else self.bits if self.packed else 8)
        return self.bits + beside / (self.group_size or inputs)


@dataclass(frozen=True)
class Quantized:
    """Integers of a matrix and their grid; w = (whole - zero) * scale.

    Attributes:
        whole_OI: int8.
        scale_OG: In the type that the matrix had.
        zero_OG: int8; None where the scheme is symmetric.
    """

    scheme: Scheme
    whole_OI: torch.Tensor
    scale_OG: torch.Tensor
    zero_OG: torch.Tensor | None = None

    @property
    def weight_OI(self) -> torch.Tensor:
        """Read it back, in the arithmetic that compressed-tensors uses."""
        groups_OGS = self.whole_OI.unflatten(-1, (self.scale_OG.shape[-1], -1)).to(self.scale_OG.dtype)
        if self.zero_OG is not None:
            groups_OGS = groups_OGS - self.zero_OG[..., None].to(self.scale_OG.dtype)
        return (groups_OGS * self.scale_OG[..., None]).flatten(-2)

    def stored(self) -> dict[str, torch.Tensor]:
        """Lay it out as compressed-tensors does: names below the layer's own."""
        import torch
        from compressed_tensors.compressors.pack_quantized.helpers import pack_to_int32

        beside = {"weight_scale": self.scale_OG}
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
    return Quantized(
        parts[0].scheme,
        torch.cat([part.whole_OI for part in parts]),
        torch.cat([part.scale_OG for part in parts]),
        torch.cat(zeros) if zeros else None,
    )


def config(scheme: Scheme, left: list[str]) -> dict[str, Any]:
    """Describe a scheme for config.json.

    Args:
        scheme: Of every linear layer but those left.
        left: Names of layers that keep their weights.
    """
    import compressed_tensors
    from compressed_tensors.quantization import QuantizationArgs, QuantizationConfig, QuantizationScheme

    kind = "pack-quantized" if scheme.packed else "int-quantized"
    weights = QuantizationArgs(
        num_bits=scheme.bits,
        symmetric=scheme.symmetric,
        group_size=scheme.group_size,
        strategy="group" if scheme.group_size else "channel",
    )
    inputs = (
        QuantizationArgs(num_bits=8, symmetric=True, strategy="token", dynamic=True) if scheme.activations else None
    )
    group = QuantizationScheme(targets=["Linear"], weights=weights, input_activations=inputs, format=kind)
    described = QuantizationConfig(
        config_groups={"group_0": group}, format=kind, quantization_status="compressed", ignore=left
    )
    found: dict[str, Any] = json.loads(described.model_dump_json())
    found["version"] = compressed_tensors.__version__
    if scheme.packed:
        # Some architectures, and zero points, can't wait for the first forward to be unpacked.
        found["dequantize"] = True
    return found


def to_file(name: str, found: Quantized) -> tuple[dict[str, torch.Tensor], str]:
    """Lay it out for a file of our own, integers unpacked: tensors, and the scheme as JSON."""
    tensors = {f"{name}.whole": found.whole_OI, f"{name}.scale": found.scale_OG}
    if found.zero_OG is not None:
        tensors[f"{name}.zero"] = found.zero_OG
    return tensors, json.dumps(asdict(found.scheme))


def from_file(name: str, scheme: str, tensors: Mapping[str, torch.Tensor]) -> Quantized:
    """Read back what `to_file` laid out."""
    return Quantized(
        Scheme(**json.loads(scheme)), tensors[f"{name}.whole"], tensors[f"{name}.scale"], tensors.get(f"{name}.zero")
    )
