"""What llama.cpp has a place for, told by names, shapes and settings alone."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from compressit.errors import StepError
from compressit.model.quantized import Scheme

BLOCK = 32
"""Weights that share a scale."""
GRIDS = {4: "Q4_0", 5: "Q5_0", 8: "Q8_0"}
"""ggml's type for integers of up to so many bits."""


@dataclass(frozen=True)
class Family:
    """How llama.cpp knows a family.

    Attributes:
        name: What GGUF calls it.
        paired: Whether the two numbers that are rotated together lie side by side, not half a head apart.
    """

    name: str
    paired: bool


FAMILIES = {
    "llama": Family("llama", paired=True),
    "mistral": Family("llama", paired=True),
    "qwen2": Family("qwen2", paired=False),
    "qwen3": Family("qwen3", paired=False),
}


def family(model_type: str) -> Family:
    """Find a family by what transformers calls it.

    Raises:
        StepError: it is not written.
    """
    if model_type not in FAMILIES:
        raise StepError(
            f"gguf: models of the type {model_type} are not written",
            hint=f"those of {', '.join(FAMILIES)} are; leave the export out",
        )
    return FAMILIES[model_type]


def check_alike(shapes: Mapping[str, Sequence[int]]) -> None:
    """Hold every block's shapes to those of the first one, by the tensors' names.

    Raises:
        StepError: they differ.
    """
    first: dict[str, str] = {}
    for name, shape in shapes.items():
        other = first.setdefault(re.sub(r"\.\d+\.", ".N.", name, count=1), name)
        if tuple(shapes[other]) != tuple(shape):
            was, found = (" x ".join(map(str, each)) for each in (shapes[other], shape))
            raise StepError(
                f"gguf: llama.cpp takes blocks of one shape, and {other} is {was}, {name} {found}",
                hint="cut the same out of every block: prune_ffn and prune_heads with uniform: true",
            )


def grid_type(scheme: Scheme, name: str, inputs: int) -> str:
    """Name ggml's type for integers.

    Args:
        scheme: How they were made.
        name: Of their matrix.
        inputs: Its inputs.

    Raises:
        StepError: there is none.
    """
    what = (
        f"{scheme.number} weights" if scheme.number != "int"
        else "zero points" if not scheme.symmetric
        else "rounded activations" if scheme.activations
        else None
    )  # fmt: skip
    if what:
        raise StepError(
            f"gguf: llama.cpp's blocks of integers have no place for the {what} of {name}",
            hint="round weights alone, to integers, with symmetric: true; or leave the export out",
        )
    size = scheme.group_size or inputs
    if size % BLOCK:
        raise StepError(
            f"gguf: {BLOCK} weights of a row share a scale in llama.cpp's blocks, and of {name} {size} do",
            hint=f"choose a group_size that is a multiple of {BLOCK}, or exclude that layer",
        )
    return GRIDS[min(bits for bits in GRIDS if bits >= scheme.bits)]
