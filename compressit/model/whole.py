"""A model: transformers module and processor, where they came from, and where its weights lie."""

from __future__ import annotations

import functools
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from compressit import anatomy, tasks
from compressit.algorithms.int8 import Range
from compressit.model import disk as disks
from compressit.model import ranges, saving, tokens
from compressit.model.caches import Scales
from compressit.model.disk import Disk
from compressit.model.matrices import Matrix, matrices
from compressit.model.parts import Part
from compressit.model.patterns import matching
from compressit.model.quantized import Quantized
from compressit.tasks import Reader

if TYPE_CHECKING:
    import torch
    from torch import nn


@dataclass
class Model:
    """A model. Steps change it in place.

    Attributes:
        module: The transformers model, in eval mode; its weights are on the meta device where they lie on disk.
        processor: Its tokenizer, image processor or feature extractor.
        task: Name of the task whose auto class opened it.
        source: Hub id or folder it came from.
        disk: Where its weights lie; None where they are in memory.
        quantized: Matrices that a step has quantized, by name, where they are in memory. The module holds them too,
            read back.
        caches: Scales of the keys and values that a runtime keeps, by attention, where a step has found some.
        ranges: What linear layers take in, least and greatest, by name, where a step has trained with them.
    """

    module: Any
    processor: Any
    task: str
    source: str
    disk: Disk | None = None
    quantized: dict[str, Quantized] = field(default_factory=dict)
    ranges: dict[str, Range] = field(default_factory=dict)
    caches: dict[str, Scales] = field(default_factory=dict)

    def blocks(self) -> list[tuple[str, nn.Module]]:
        """List the transformer blocks as (full name, block), each once, in the order that data walks them."""
        return anatomy.blocks(self.module)

    def matrices(self, include: Sequence[str] = (), exclude: Sequence[str] = ()) -> dict[str, Matrix]:
        """Pick weight matrices by glob patterns over their full names.

        Args:
            include: Patterns of which one must match. Empty: every matrix inside the blocks.
            exclude: Patterns of which none may match.

        Raises:
            RecipeError: a pattern matches nothing, or nothing is left.
        """
        every = {matrix.name: matrix for matrix in matrices(self.module)}
        inside = () if include else tuple(f"{name}." for name, _ in self.blocks())
        return {name: every[name] for name in matching(list(every), include, exclude, lambda n: n.startswith(inside))}

    def parts(self) -> dict[str, list[str]]:
        """List the names of tensors by part: the full name of each block, and "" for what is outside the blocks."""
        found: dict[str, list[str]] = {name: [] for name in (*(name for name, _ in self.blocks()), "")}
        for name in self.module.state_dict():
            found[anatomy.block_name(self.module.config.model_type, name) or ""].append(name)
        return found

    def read(self, part: str, names: Sequence[str]) -> Part:
        """Give tensors of a part: those of the module itself, or read from where they lie."""
        state = self.module.state_dict(keep_vars=True)
        if self.disk is None:
            below = f"{part}." if part else ""
            own = {name: found for name, found in self.quantized.items() if name.startswith(below)}
            return Part(part, {name: state[name].data for name in names}, own)
        changed = self.disk.parts.get(part)
        found = Part.of_file(part, changed, self.module) if changed else Part(part, {}, {})
        left = [name for name in names if name not in found.tensors]
        found.tensors.update(disks.read({name: self.disk.places[name] for name in left if name in self.disk.places}))
        found.tensors.update({name: state[name].data for name in left if name not in self.disk.places})
        return found

    def become(self, other: Model) -> None:
        """Take another model's place, in place; what its folder doesn't say of how it is read stays as it was."""
        if tasks.reads_own(self.task, Path(other.source)):
            self.source = other.source
            vars(self).pop("answer", None)
        elif (limit := tasks.cut_at(self.task, Path(self.source))) is not None:
            other.processor.model_max_length = min(other.processor.model_max_length, limit)
        self.module, self.processor = other.module, other.processor
        self.quantized.clear()

    def save(self, folder: Path) -> None:
        """Write config, safetensors and processor files; quantized matrices in the compressed-tensors format."""
        saving.save(self, folder)
        ranges.write(self.ranges, folder)
        self.keep(folder)

    def keep(self, folder: Path) -> None:
        """Write what goes along with weights, of whatever format: the processor, and what the task needs to read."""
        tokens.save(self.processor, folder)
        tasks.keep(self.task, Path(self.source), folder, getattr(self.module.config, "hidden_size", 0))

    @functools.cached_property
    def answer(self) -> Reader:
        """What makes one tensor of the module's outputs and its inputs, as the task judges it."""
        return tasks.reader(self.task, Path(self.source))


def cast(module: nn.Module, dtype: torch.dtype) -> None:
    """Change the type of what a checkpoint holds, in place; what is computed when a model is opened keeps its own."""
    held = module.state_dict().keys()
    for name, tensor in (*module.named_parameters(), *module.named_buffers()):
        if name in held and tensor.is_floating_point():
            tensor.data = tensor.data.to(dtype)
