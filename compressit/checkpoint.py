"""What a saved checkpoint holds, tensor by tensor, quantized or not, without opening the model."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from compressit import anatomy
from compressit.algorithms import floats
from compressit.intake import BITS, described, header
from compressit.weights import Weights, of_shapes

if TYPE_CHECKING:
    import torch

NOT_WEIGHTS = ("weight_scale", "weight_zero_point", "weight_shape", "weight_global_scale", "input_scale", "k_scale",
               "v_scale")  # fmt: skip
"""What compressed-tensors stores beside a quantized weight, or by an attention."""


@dataclass(frozen=True)
class Stored:
    """One tensor of a checkpoint.

    Attributes:
        name: As the module in memory spells it.
        kind: How its elements are stored: "float32", "bfloat16", "int8", "int4", ...
        elements: How many numbers it is.
        zero: Which of them are zero, of the tensor's own shape.
    """

    name: str
    kind: str
    elements: int
    zero: torch.Tensor


@dataclass(frozen=True)
class Matrix:
    """The weights of a linear layer, an embedding or a convolution, as they read back.

    Attributes:
        kind: How its elements are stored: "float32", "bfloat16", "int8", "int4", ...
        values: (outputs, inputs, ...) or as the architecture has it, unpacked where they are integers on a grid.
    """

    kind: str
    values: torch.Tensor


@contextmanager
def matrices(folder: Path) -> Iterator[Mapping[str, Callable[[], Matrix]]]:
    """Open the weights of two dimensions or more: what reads each, by its name in memory without `.weight`."""
    from safetensors import safe_open

    config, sizes = described(folder), shapes(folder)
    model_type, scheme_of = str(config.get("model_type", "unknown")), schemes(config)
    with ExitStack() as stack:
        files = [stack.enter_context(safe_open(file, framework="pt")) for file in sorted(folder.glob("*.safetensors"))]
        found = (entry for opened in files for entry in _reads(opened, model_type))

        def reader(name: str, read: Callable[[], Any]) -> Callable[[], Matrix]:
            def matrix() -> Matrix:
                stored, beside = read()
                if "weight_scale" in beside:
                    scheme = scheme_of(name)
                    return Matrix(_kind(scheme), _unpacked(stored, beside, scheme))
                return Matrix(str(stored.dtype).removeprefix("torch."), stored)

            return matrix

        yield {
            own: reader(own, read)
            for name, read in found
            if len(sizes[name]) > 1
            for own in (name.removesuffix(".weight"),)
        }


def tensors(folder: Path) -> Iterator[Stored]:
    """Read every tensor of the safetensors files, one at a time."""
    config = described(folder)
    scheme_of = schemes(config)
    for name, read in _entries(folder, config):
        stored, beside = read()
        kind, zero = str(stored.dtype).removeprefix("torch."), stored == 0
        if "weight_scale" in beside:
            scheme = scheme_of(name.removesuffix(".weight"))
            kind, zero = _kind(scheme), _zeros(stored, beside, scheme["num_bits"])
        yield Stored(name, kind, zero.numel(), zero)


def shapes(folder: Path) -> dict[str, tuple[int, ...]]:
    """Give each tensor's shape when it is opened, by its name in memory, without reading weights."""
    found: dict[str, tuple[int, ...]] = {}
    for file in sorted(folder.glob("*.safetensors")):
        found |= _shapes(file, str(described(folder).get("model_type", "unknown")))
    return found


def table(folder: Path) -> Weights:
    """Give the shapes as a table; what an element takes is not in it."""
    return of_shapes(str(described(folder).get("model_type", "unknown")), shapes(folder))


def multiplications(folder: Path) -> int:
    """Count those that the matrices of the blocks make of a token; 0 where the anatomy is not known."""
    found = table(folder)
    return sum(each.elements for name, each in found.linears().items() if found.inside_blocks(name))


def _shapes(file: Path, model_type: str) -> dict[str, tuple[int, ...]]:
    from safetensors import safe_open

    found = {}
    with safe_open(file, framework="pt") as opened:
        names = {*opened.keys()}
        for name in sorted(names):
            parent, _, leaf = name.rpartition(".")
            if name.endswith(NOT_WEIGHTS):
                continue
            packed = leaf == "weight_packed"
            shape = list(opened.get_slice(name).get_shape())
            if packed and f"{parent}.weight_shape" in names:
                shape = opened.get_tensor(f"{parent}.weight_shape").tolist()
            elif packed:
                # Floats of 4 bits, two in a byte.
                shape[-1] *= 2
            found[anatomy.module_name(model_type, f"{parent}.weight" if packed else name)] = tuple(shape)
    return found


def _entries(folder: Path, config: dict[str, Any]) -> Iterator[tuple[str, Callable[[], Any]]]:
    """Give each tensor's name in memory, and what reads it with what is stored beside it."""
    from safetensors import safe_open

    for file in sorted(folder.glob("*.safetensors")):
        with safe_open(file, framework="pt") as opened:
            yield from _reads(opened, str(config.get("model_type", "unknown")))


def _reads(opened: Any, model_type: str) -> Iterator[tuple[str, Callable[[], Any]]]:
    names = set(opened.keys())
    for name in sorted(names):
        if name.endswith(NOT_WEIGHTS):
            continue
        parent, _, leaf = name.rpartition(".")
        quantized = f"{parent}.weight_scale" in names and leaf in ("weight", "weight_packed")
        beside = {key: f"{parent}.{key}" for key in NOT_WEIGHTS if f"{parent}.{key}" in names}
        held = beside if quantized else {}

        def read(name: str = name, held: dict[str, str] = held) -> Any:
            return opened.get_tensor(name), {key: opened.get_tensor(full) for key, full in held.items()}

        yield anatomy.module_name(model_type, f"{parent}.weight" if quantized else name), read


def quantization(config: dict[str, Any]) -> dict[str, Any] | None:
    """Take the first scheme of a compressed-tensors checkpoint from its parsed config.json; None without one."""
    groups = config.get("quantization_config", {}).get("config_groups", {})
    return next(iter(groups.values()), None)


def schemes(config: dict[str, Any]) -> Callable[[str], dict[str, Any]]:
    """Say how the weights of each quantized layer are stored, by its name in memory, as compressed-tensors does."""
    groups = [*config.get("quantization_config", {}).get("config_groups", {}).values()]
    named = {target: group["weights"] for group in groups for target in group["targets"]}
    patterns = [(re.compile(target[3:]), found) for target, found in named.items() if target.startswith("re:")]

    def scheme_of(name: str) -> dict[str, Any]:
        found: dict[str, Any] = groups[0]["weights"]
        if len(groups) > 1:
            found = named[name] if name in named else next(found for known, found in patterns if known.match(name))
        return found

    return scheme_of


def average_bits(folder: Path) -> float:
    """Count the bits that a quantized weight takes in the files, with all that is stored beside it; 0 without any."""
    bits = 0.0
    held: set[str] = set()
    for file in sorted(folder.glob("*.safetensors")):
        for name, entry in header(file).items():
            parent, _, leaf = name.rpartition(".")
            if leaf.startswith("weight_"):
                bits += math.prod(entry["shape"]) * BITS[entry["dtype"]]
                held.add(parent)
    model_type = str(described(folder).get("model_type", "unknown"))
    sizes = shapes(folder)
    weights = sum(math.prod(sizes[anatomy.module_name(model_type, f"{parent}.weight")]) for parent in held)
    return bits / weights if weights else 0.0


def _kind(scheme: dict[str, Any]) -> str:
    """Say in a word what weights are stored as."""
    if scheme["type"] == "int":
        return f"int{scheme['num_bits']}"
    return "fp8" if scheme["num_bits"] == 8 else "nvfp4" if scheme["strategy"] == "tensor_group" else "mxfp4"


def _zeros(stored: torch.Tensor, beside: dict[str, torch.Tensor], bits: int) -> torch.Tensor:
    """Find the weights that read back as zero: those stored as their group's zero point."""
    whole, point = _whole(stored, beside, bits)
    return whole == (0 if point is None else point.repeat_interleave(whole.shape[-1] // point.shape[-1], dim=-1))


def _unpacked(stored: torch.Tensor, beside: dict[str, torch.Tensor], scheme: dict[str, Any]) -> torch.Tensor:
    """Read weights back from their grid, in float32."""
    import torch

    whole, point = _whole(stored, beside, scheme["num_bits"])
    scale = beside["weight_scale"]
    if stored.dtype == torch.uint8:
        over = beside.get("weight_global_scale")
        return floats.read_back(whole, floats.powers(scale) if over is None else scale.float(), over).float()
    scale = floats.of_rows(scale.float(), len(whole), (scheme.get("block_structure") or [None])[0])
    groups = whole.float().unflatten(-1, (scale.shape[-1], -1))
    if point is not None:
        groups = groups - point.float()[..., None]
    return (groups * scale[..., None]).flatten(-2)


def _whole(
    stored: torch.Tensor, beside: dict[str, torch.Tensor], bits: int
) -> tuple[torch.Tensor, torch.Tensor | None]:
    """Give the numbers of a weight on their grid, and its zero points by row and group where it has some."""
    import torch
    from compressed_tensors.compressors.pack_quantized.helpers import unpack_from_int32

    point = beside.get("weight_zero_point")
    if stored.dtype == torch.uint8:
        return floats.unpacked(stored), None
    if stored.dtype == torch.int32:
        shape = torch.Size(beside["weight_shape"].tolist())
        stored = unpack_from_int32(stored, bits, shape)
        if point is not None:
            rows = torch.Size((shape[0], beside["weight_scale"].shape[-1]))
            point = unpack_from_int32(point, bits, rows, packed_dim=0)
    return stored, point


def broken(folder: Path) -> list[str]:
    """Name the tensors of a checkpoint's files that hold NaN, or infinity where a weight or a bias should be."""
    from safetensors import safe_open

    found = []
    for file in sorted(folder.glob("*.safetensors")):
        with safe_open(file, framework="pt") as opened:
            names = opened.keys()
            for name in names:
                tensor = opened.get_tensor(name)
                if not tensor.is_floating_point():
                    continue
                learned = name.endswith(("weight", "bias", "weight_scale"))
                if tensor.element_size() == 1:
                    tensor = tensor.float()
                sound = tensor.isfinite() if learned else ~tensor.isnan()
                found += [] if bool(sound.all()) else [name]
    return found
