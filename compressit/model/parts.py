"""One part of a model, a block or what is outside the blocks, in memory while somebody looks at it or changes it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from compressit.model import disk
from compressit.model.matrices import Matrix, matrices
from compressit.model.quantized import Quantized, from_file, to_file

if TYPE_CHECKING:
    import torch

    from compressit.model.whole import Model


@dataclass
class Part:
    """Tensors of a part in the type they are stored in, and those of its matrices that are quantized.

    Attributes:
        name: Full name of the block; "" for what is outside the blocks.
        finished: The step has changed it before, in a run that was killed.
    """

    name: str
    tensors: dict[str, torch.Tensor]
    quantized: dict[str, Quantized]
    finished: bool = False

    def within(self, chosen: Mapping[str, Matrix]) -> list[Matrix]:
        """List the chosen matrices that it holds."""
        return [matrix for matrix in chosen.values() if matrix.parameter in self.tensors]

    def weight(self, matrix: Matrix) -> torch.Tensor:
        """Copy a matrix as float32: (O, I)."""
        import torch

        return matrix.of(self.tensors).detach().to(torch.float32, copy=True)

    def put(self, matrix: Matrix, weight_OI: torch.Tensor) -> None:
        """Change a matrix."""
        matrix.of(self.tensors).copy_(weight_OI)

    def quantize(self, matrix: Matrix, found: Quantized) -> None:
        """Change a matrix to integers; its float weights become what they read back as."""
        self.quantized[matrix.name] = found
        self.put(matrix, found.weight_OI)

    def write(self, file: Path, module: Any) -> None:
        """Write it to a file of our own; float weights that the integers say already are left out."""
        inside = [matrix for matrix in matrices(module, _below(self.name)) if matrix.parameter in self.tensors]
        floats = {matrix.parameter for matrix in inside if matrix.name not in self.quantized}
        needless = {matrix.parameter for matrix in inside} - floats
        tensors = {name: tensor for name, tensor in self.tensors.items() if name not in needless}
        metadata = {}
        for name, found in self.quantized.items():
            own, metadata[name] = to_file(name, found)
            tensors |= own
        disk.write(file, tensors, metadata)

    @classmethod
    def of_file(cls, name: str, file: Path, module: Any) -> Part:
        """Read what `write` wrote."""
        tensors, metadata = disk.contents(file)
        quantized = {key: from_file(key, scheme, tensors) for key, scheme in metadata.items()}
        held = {n: tensor for n, tensor in tensors.items() if n.rpartition(".")[0] not in quantized}
        return cls(name, held | _read_back(quantized, held, module, _below(name)), quantized)


def visits(model: Model, chosen: Mapping[str, Matrix], scratch: Path) -> Iterator[Part]:
    """Give each part that holds one of the chosen matrices, in memory, and keep what was done to it.

    Args:
        model: Its weights may lie on disk; then only one part is in memory at a time.
        chosen: The matrices to change.
        scratch: A part is written here when it is done, and what a killed run left here is taken as it is.
    """
    scratch.mkdir(parents=True, exist_ok=True)
    for index, (name, names) in enumerate(model.parts().items()):
        wanted = {matrix.parameter for matrix in chosen.values()} & {*names}
        if wanted:
            file = scratch / f"{index:05}.safetensors"
            part = enter(model, name, names if name else sorted(wanted), file)
            if not part.finished:
                yield part
            leave(model, part, file)


def enter(model: Model, name: str, names: list[str], file: Path) -> Part:
    """Bring a part into memory, as the model has it or as an earlier run of the same step left it."""
    part = model.read(name, names)
    if not file.is_file():
        return part
    done = Part.of_file(name, file, model.module)
    for key, tensor in done.tensors.items():
        part.tensors[key].copy_(tensor)
    return Part(name, part.tensors, done.quantized, finished=True)


def leave(model: Model, part: Part, file: Path) -> None:
    """Keep what was done to a part."""
    if not part.finished:
        part.write(file, model.module)
    if model.disk is None:
        model.quantized.update(part.quantized)
    else:
        model.disk.parts[part.name] = file


def _below(part: str) -> str:
    return f"{part}." if part else ""


def _read_back(
    quantized: Mapping[str, Quantized], held: Mapping[str, torch.Tensor], module: Any, below: str
) -> dict[str, torch.Tensor]:
    import torch

    state = module.state_dict(keep_vars=True)
    found: dict[str, torch.Tensor] = {}
    for matrix in matrices(module, below):
        if matrix.name in quantized and matrix.parameter not in held:
            shape = state[matrix.parameter].shape
            kind = quantized[matrix.name].scale_OG.dtype
            tensor = found.setdefault(matrix.parameter, torch.empty(shape, dtype=kind))
            matrix.of({matrix.parameter: tensor}).copy_(quantized[matrix.name].weight_OI)
    return found
