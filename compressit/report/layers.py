"""A checkpoint's matrices one by one: what became of each, and how far it moved."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from compressit import anatomy, checkpoint, intake
from compressit.checkpoint import Matrix
from compressit.report import Layer, StepRecord

if TYPE_CHECKING:
    import torch

LOOKED_AT = 2**22
"""Elements of a matrix beyond which rows spread over it stand for all in how far it moved."""

Reads = Mapping[str, Callable[[], Matrix]]


def compared(source: Path, folder: Path, done: Sequence[StepRecord]) -> tuple[Layer, ...]:
    """Compare every matrix of a checkpoint with the original's, one at a time; those taken out come last.

    Args:
        source: Folder of the original.
        folder: Of the checkpoint.
        done: The steps, whose notes say which blocks are left.
    """
    model_type = str(intake.described(folder).get("model_type", "unknown"))
    with checkpoint.matrices(source) as before, checkpoint.matrices(folder) as after:
        origins = {name: _origin(model_type, name, kept(done)) for name in after}
        shapes = checkpoint.shapes(source)
        made = [
            _layer(model_type, name, origins[name], read(), before.get(origins[name]))
            for name, read in _ordered(after, model_type)
        ]
        left = before.keys() - origins.values()
        return (
            *made,
            *(
                Layer(name=name, block=anatomy.block_name(model_type, f"{name}."), before=_shape(shapes, name))
                for name, _ in _ordered(before, model_type)
                if name in left
            ),
        )


def kept(done: Sequence[StepRecord]) -> list[list[int]] | None:
    """Say which blocks of the original the checkpoint's are, in order, for each stack; None where all are there."""
    found: list[list[int]] | None = None
    for record in done:
        if record.step == "drop_layers":
            said = [part.rpartition(": ")[2] for part in str(record.notes["kept"]).split("; ")]
            own = [[int(index) for index in part.split(", ")] for part in said]
            found = own if found is None else [[a[index] for index in b] for a, b in zip(found, own, strict=True)]
    return found


def moved(after: torch.Tensor, before: torch.Tensor) -> tuple[float | None, bool]:
    """Give the Frobenius norm of the difference over that of `before`, and whether it was found on some rows alone."""
    step = max(1, math.ceil(before.numel() / LOOKED_AT))
    some, own = before[::step].float(), after[::step].float()
    whole = float(some.norm())
    found = float((own - some).norm()) / whole if whole else math.nan
    return (found if math.isfinite(found) else None), step > 1


def _layer(model_type: str, name: str, origin: str, own: Matrix, read: Callable[[], Matrix] | None) -> Layer:
    old = None if read is None else read().values
    shape = tuple(own.values.shape)
    far, sampled = (None, False)
    if old is not None and tuple(old.shape) == shape:
        far, sampled = moved(own.values, old)
    return Layer(
        name=name,
        block=anatomy.block_name(model_type, f"{name}."),
        before=None if old is None else tuple(old.shape),
        after=shape,
        was=origin if origin != name else None,
        kind=own.kind,
        zeros=1 - int(own.values.count_nonzero()) / max(1, own.values.numel()),
        moved=far,
        sampled=sampled,
    )


def _origin(model_type: str, name: str, blocks: Sequence[Sequence[int]] | None) -> str:
    """Find what a module was called before blocks were taken out and the others counted again."""
    found = anatomy.place(model_type, f"{name}.")
    if found is None or blocks is None or found.stack.leads(found.below.removesuffix(".")):
        return name
    own = blocks[anatomy.known(model_type).stacks.index(found.stack)]
    if found.index >= len(own):
        return name
    head = found.block.removesuffix(str(found.index))
    return f"{head}{own[found.index]}.{found.below}".removesuffix(".")


def _ordered(reads: Reads, model_type: str) -> list[tuple[str, Callable[[], Matrix]]]:
    """Put matrices in the order of their blocks, those outside the blocks first."""

    def key(name: str) -> tuple[str, int, str]:
        found = anatomy.place(model_type, f"{name}.")
        return ("", -1, name) if found is None else (found.stack.path, found.index, name)

    return [(name, reads[name]) for name in sorted(reads, key=key)]


def _shape(shapes: Mapping[str, tuple[int, ...]], name: str) -> tuple[int, ...]:
    return shapes[f"{name}.weight"] if f"{name}.weight" in shapes else shapes[name]
