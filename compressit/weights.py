"""The table of a checkpoint's weights: names, shapes and types, read from the headers alone, without torch."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from compressit import anatomy
from compressit.errors import StepError
from compressit.intake import BITS, described, header

__all__ = ["BITS", "Weight", "Weights", "header", "of_shapes", "read", "table"]

CONVOLUTIONAL = 0.25
"""Share of the matrices and convolutions that are convolutions, of a model that is called so: half a ConvNeXt's are."""


@dataclass(frozen=True)
class Weight:
    """One tensor: its name as the module in memory spells it, its shape, and bits an element, scales included."""

    name: str
    shape: tuple[int, ...]
    bits: float

    @property
    def elements(self) -> int:
        """How many numbers it holds."""
        return math.prod(self.shape)


@dataclass(frozen=True)
class Weights:
    """Every tensor of a checkpoint.

    Attributes:
        model_type: The architecture they belong to.
        tensors: By their names in memory.
        quantized: Whether the checkpoint is already.
        width: How many channels flow between its blocks; None where config.json doesn't say.
        heads: How many query heads config.json says a block has; None where it doesn't.
        head_dim: Width of an attention head; None where config.json or the anatomy doesn't say.
        vocabulary: How many tokens it has embeddings for; None where it reads none.
        met: How many experts of a block a token meets; None where there are none.
    """

    model_type: str
    tensors: tuple[Weight, ...]
    quantized: bool = False
    width: int | None = None
    heads: int | None = None
    head_dim: int | None = None
    vocabulary: int | None = None
    met: int | None = None

    @property
    def bytes(self) -> int:
        """Size of the weights on disk."""
        return round(sum(tensor.elements * tensor.bits for tensor in self.tensors) / 8)

    @property
    def parameters(self) -> int:
        """How many numbers they are."""
        return sum(tensor.elements for tensor in self.tensors)

    def blocks(self) -> int:
        """How many transformer blocks they form; 0 where the anatomy is not known."""
        found = {anatomy.block_name(self.model_type, tensor.name) for tensor in self.tensors} - {None}
        return len(found)

    def stacks(self) -> dict[str, int]:
        """How many transformer blocks each of the architecture's lists of them holds, by its path."""
        found = [anatomy.place(self.model_type, tensor.name) for tensor in self.tensors]
        blocks = {(place.stack.path, place.block) for place in found if place}
        paths = [stack.path for stack in anatomy.known(self.model_type).stacks]
        return {path: sum(own == path for own, _ in blocks) for path in paths}

    def linears(self) -> dict[str, Weight]:
        """The matrices, outputs by inputs, by the name of the module that holds them; embeddings are told by theirs."""
        transposed = anatomy.is_transposed(self.model_type)
        found = {}
        for tensor in self.tensors:
            name = tensor.name.removesuffix(".weight")
            matrix = name != tensor.name and len(tensor.shape) == 2
            if matrix and not anatomy.is_embedding(name) and not anatomy.is_left(self.model_type, name):
                turned = transposed and anatomy.block_name(self.model_type, tensor.name) is not None
                found[name] = replace(tensor, shape=tensor.shape[::-1]) if turned else tensor
        return found

    @property
    def convolutional(self) -> bool:
        """Whether convolutions over pictures or sounds are a good part of its work, not the first layer alone."""
        # Few layers hear a wave, each at many more places than those behind them.
        over_waves = sum(len(tensor.shape) == 3 and tensor.name.endswith(".weight") for tensor in self.tensors)
        if anatomy.raw(self.model_type) and over_waves > 1:
            return True
        over_pictures = sum(len(tensor.shape) == 4 and tensor.name.endswith(".weight") for tensor in self.tensors)
        return over_pictures >= CONVOLUTIONAL * (over_pictures + len(self.linears())) > 0

    @property
    def heads_said(self) -> bool:
        """Whether config.json is sure to say its heads beside its width, where they were cut."""
        shapes = {tensor.name: tensor.shape for tensor in self.tensors}
        return self.head_dim is not None and anatomy.heads_fit(self.model_type, shapes, self.head_dim)

    def inside_blocks(self, name: str) -> bool:
        """Tell whether a module lies inside a transformer block."""
        return anatomy.block_index(self.model_type, f"{name}.") is not None

    def changed(self, tensors: Iterable[Weight]) -> Weights:
        """The same architecture with other tensors."""
        return replace(self, tensors=tuple(tensors))


def read(folder: Path) -> Weights:
    """Read the table of a local checkpoint from config.json and the safetensors headers.

    Raises:
        StepError: it is not a transformers model.
        IntegrityError: a safetensors file is not what its header says.
        UnsafeError: config.json or a header says what no model's does.
    """
    config = described(folder)
    files = sorted(folder.glob("*.safetensors"))
    try:
        return table(config, (header(file) for file in files))
    except (TypeError, ValueError, AttributeError, ArithmeticError) as error:
        raise StepError(f"{folder}/config.json says of the model what can't be: {error}") from error


def of_shapes(model_type: str, shapes: Mapping[str, tuple[int, ...]], bits: float = 0) -> Weights:
    """Build a table of shapes, by names as the module in memory spells them; all of so many bits an element."""
    return Weights(model_type, tuple(Weight(name, shape, bits) for name, shape in shapes.items()))


def table(config: Mapping[str, Any], headers: Iterable[Mapping[str, Any]]) -> Weights:
    """Build the table from a parsed config.json and parsed safetensors headers."""
    model_type = str(config.get("model_type", "unknown"))
    tensors = [
        Weight(anatomy.module_name(model_type, name), tuple(entry["shape"]), BITS[entry["dtype"]])
        for head in headers
        for name, entry in head.items()
        if name != "__metadata__"
    ]
    vocabulary = config.get("vocab_size", config.get("text_config", {}).get("vocab_size"))
    return Weights(
        model_type,
        tuple(tensors),
        quantized="quantization_config" in config,
        width=anatomy.width(config) if anatomy.settled(config) else _width(model_type, tensors),
        heads=anatomy.head_count(config),
        head_dim=anatomy.head_dim(config),
        vocabulary=vocabulary,
        met=anatomy.met(config),
    )


def _width(model_type: str, tensors: Iterable[Weight]) -> int | None:
    """Read the width off a matrix that heads lead into, where config.json doesn't say the shapes."""
    inputs = 0 if anatomy.is_transposed(model_type) else 1
    for tensor in tensors:
        if tensor.name.endswith(".weight") and anatomy.head_axis(model_type, tensor.name) == inputs:
            return tensor.shape[1 - inputs]
    return None
