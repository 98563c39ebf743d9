"""The walk itself: enter a block, show a step what its matrices see, let it change them, run on, leave."""

from __future__ import annotations

import contextlib
import gc
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from compressit import anatomy, machine, ranks
from compressit.data.walking.activations import Activations
from compressit.data.walking.capture import Call, Stack, capture
from compressit.data.walking.lending import lent
from compressit.data.walking.passes import Group, collect, plan_of
from compressit.data.walking.runs import Runs
from compressit.data.walking.statistics import Statistic
from compressit.data.walking.watch import products
from compressit.errors import StepError
from compressit.model import disk
from compressit.model.matrices import Matrix
from compressit.model.parts import Part, enter, leave

if TYPE_CHECKING:
    import torch
    from torch import nn

    from compressit.model import Model
    from compressit.model.quantized import Quantized

PAUSE, PATIENCE = 0.1, 300.0
"""Seconds between two looks for a block that the first process has written, and for how long others look."""
WAITING = 2
"""How much passes that wait may hold in memory, in units of what flows between blocks."""


@dataclass(frozen=True)
class How:
    """How a walk goes.

    Attributes:
        statistic: Makes what is measured of some inputs: (how many inputs, device) -> Statistic.
        sequential: Let the matrices of a block see what those before them in the block have become.
        feed: Give the next block what this one gives after its change, or what it gave before.
        device: Where blocks are computed.
        dtype: Arithmetic of the forward passes.
        limit: Bytes of activations to hold in memory; the rest goes to files.
        places: By batch, the positions that are measured in the first stack, (B, T); None or nothing for all.
        processes: How many walk together, each with batches of its own; all see what all have measured.
    """

    statistic: Callable[[int, str], Statistic]
    sequential: bool
    feed: Literal["compressed", "original"]
    device: str
    dtype: torch.dtype
    limit: int
    places: Sequence[torch.Tensor | None] = ()
    processes: int = 1


@dataclass
class Block:
    """A block in memory."""

    part: Part
    groups: Callable[[], Iterator[Group]]
    runs: Runs = field(repr=False)
    computing: dict[str, torch.Tensor] = field(repr=False)
    """Its tensors as the forward pass uses them."""

    def weight(self, matrix: Matrix) -> torch.Tensor:
        """Copy a matrix as float32, where blocks are computed: (O, I)."""
        device = self.computing[matrix.parameter].device
        return self.part.weight(matrix).to(device)

    def dtype(self, matrix: Matrix) -> torch.dtype:
        """Type that a matrix is stored in."""
        return self.part.tensors[matrix.parameter].dtype

    def put(self, matrix: Matrix, weight_OI: torch.Tensor) -> None:
        """Change a matrix."""
        self.part.put(matrix, weight_OI)
        self._follow(matrix)

    def quantize(self, matrix: Matrix, found: Quantized) -> None:
        """Change a matrix to integers."""
        self.part.quantize(matrix, found)
        self._follow(matrix)

    def within(self) -> dict[str, torch.Tensor]:
        """Give its tensors as the forward pass uses them, by their names within the block."""
        return {name.removeprefix(f"{self.part.name}."): tensor for name, tensor in self.computing.items()}

    def set(self, name: str, tensor: torch.Tensor) -> None:
        """Change a tensor that is no matrix."""
        self.part.tensors[name].copy_(tensor)
        self.computing[name].copy_(self.part.tensors[name])

    def add(self, name: str, change: torch.Tensor) -> None:
        """Add to a tensor that is no matrix."""
        self.part.tensors[name].add_(change.to(self.part.tensors[name].device))
        self.computing[name].copy_(self.part.tensors[name])

    def fold(self, fold: anatomy.Fold, scale_C: torch.Tensor) -> None:
        """Fold a scale into the channels that it is for."""
        fold.apply(self.part.tensors, scale_C)
        for side in (*fold.gives, *fold.reads):
            self.computing[side.tensor].copy_(self.part.tensors[side.tensor])

    def _follow(self, matrix: Matrix) -> None:
        matrix.of(self.computing).copy_(matrix.of(self.part.tensors))


def walk(
    model: Model, batches: Sequence[Mapping[str, torch.Tensor]], chosen: Mapping[str, Matrix], scratch: Path, how: How
) -> Iterator[Block]:
    """Give the blocks that hold chosen matrices, in order.

    A block is read when the walk reaches it and written to `scratch` when it leaves. What a killed walk left there is
    taken as it is: such blocks are only run, and not even that where no other block comes after them. Of several
    processes that walk together the first writes a block, and all take it as that has left it.

    Args:
        model: Its weights may lie on disk; then one block is in memory at a time.
        batches: From `samples`.
        chosen: Matrices inside the blocks.
        scratch: Folder of this step alone, which all processes see.
        how: See there.
    """
    import torch

    scratch.mkdir(parents=True, exist_ok=True)
    parts = model.parts()
    files = {name: scratch / f"{index:05}.safetensors" for index, name in enumerate(parts)}
    holding = {name for name, names in parts.items() if {m.parameter for m in chosen.values()} & {*names}}
    pending = [name for name in parts if name in holding and not files[name].is_file()]
    pending = ranks.agreed(pending, how.processes)
    stretches = anatomy.stages(model.module)
    stacks = [Stack([block for _, block in stretch]) for stretch in stretches]
    names = [[name for name, _ in stretch] for stretch in stretches]
    with contextlib.ExitStack() as flows, torch.no_grad(), _ready(model.module, how.device):
        for depth, own in enumerate(names):
            # The positions are those of what the first stack reads: a decoder behind an encoder reads something else.
            how = how if depth == 0 else replace(how, places=())
            ahead = [name for later in names[depth:] for name in later if name in pending]
            flow = Activations(scratch / f"stack-{depth}-{ranks.number()}", how.limit)
            flows.callback(flow.clear)
            calls: list[list[Call]] = []
            if ahead:
                with lent(model, how.dtype, how.device), _computing(model, own[0], parts[own[0]], how):
                    calls = capture(model.module, stacks[: depth + 1], batches, flow.put, how.device, how.dtype)
            gc.collect()
            machine.give_back()
            for index, name in enumerate(own):
                runs_on = any(later in pending for later in [*own[index + 1 :], *chain(*names[depth + 1 :])])
                if name not in holding and not runs_on:
                    continue
                step = _Step(model, stacks[depth].blocks[index], flow, [call[index] for call in calls], how)
                yield from _visit(step, name, parts[name], files[name], chosen, runs_on)
            stacks[depth].outputs = flow.get
        # Nobody goes before all have read what the first has written.
        ranks.gathered({}, how.processes)


@dataclass(frozen=True)
class _Step:
    """One block of the walk, and what flows into it."""

    model: Model
    block: nn.Module
    flow: Activations
    calls: list[Call]
    how: How

    def run_on(self) -> None:
        """Turn what flows in into what flows out."""
        self.runs({}, {}).finish()

    def runs(self, computing: Mapping[str, torch.Tensor], inside: Mapping[str, Matrix]) -> Runs:
        """Make passes that can be stopped at the products with some matrices."""
        room = min(self.how.limit - self.flow.bytes, WAITING * self.flow.bytes)
        if self.how.device.startswith("cuda"):
            room = machine.free_memory(self.how.device) // 2
        known = products(computing, inside)
        return Runs(self.block, self.flow, self.calls, known, self.how.device, room)


def _visit(
    step: _Step, name: str, names: list[str], file: Path, chosen: Mapping[str, Matrix], runs_on: bool
) -> Iterator[Block]:
    model, how = step.model, step.how
    inside = {key: matrix for key, matrix in chosen.items() if key.startswith(f"{name}.")}
    if not inside:
        with _computing(model, name, names, how):
            step.run_on()
        return
    if how.feed == "original" and file.is_file() and runs_on:
        with _computing(model, name, names, how):
            step.run_on()
        runs_on = False
    part = enter(model, name, names, file)
    if not part.finished or runs_on:
        with _as_computed(model, part, how) as computing:
            runs = step.runs(computing, inside)
            if not part.finished:
                collected = None
                if how.feed == "original":
                    collected = _all_at_once(runs, computing, inside, how, runs_on)
                yield Block(part, lambda: _groups(runs, computing, inside, how, collected), runs, computing)
            if runs_on and how.feed == "compressed":
                runs.finish()
                machine.give_back()
    _leave(model, part, file, how)


def _leave(model: Model, part: Part, file: Path, how: How) -> None:
    if ranks.leads():
        leave(model, part, file)
    ranks.agreed(None, how.processes)
    if not ranks.leads():
        _wait(file)
        leave(model, enter(model, part.name, [*part.tensors], file), file)


def _wait(file: Path) -> None:
    """Wait for a file of the first process: a shared file system may take a while to show it."""
    until = time.monotonic() + PATIENCE
    while not file.is_file():
        if time.monotonic() > until:
            raise StepError(
                f"{file} of the first process can't be seen on this machine",
                hint="have the cache (COMPRESSIT_CACHE) on a file system that all machines share",
            )
        time.sleep(PAUSE)


def _all_at_once(
    runs: Runs, computing: dict[str, torch.Tensor], inside: Mapping[str, Matrix], how: How, runs_on: bool
) -> list[Group]:
    """Measure all inputs in the pass that also makes the next block's, before anything is changed."""
    (stage,) = plan_of(runs, inside, how, sequential=False)
    return collect(runs, computing, inside, stage, how, keep_outputs=runs_on)


def _groups(
    runs: Runs,
    computing: dict[str, torch.Tensor],
    inside: Mapping[str, Matrix],
    how: How,
    collected: list[Group] | None,
) -> Iterator[Group]:
    if collected is not None:
        yield from collected
        return
    for stage in plan_of(runs, inside, how, sequential=how.sequential):
        found = collect(runs, computing, inside, stage, how, keep_outputs=False)
        machine.give_back()
        while found:
            yield found.pop(0)


@contextlib.contextmanager
def _computing(model: Model, name: str, names: list[str], how: How) -> Iterator[None]:
    """Give a block its weights to run with, as they are."""
    with _as_computed(model, model.read(name, names), how):
        yield


@contextlib.contextmanager
def _as_computed(model: Model, part: Part, how: How) -> Iterator[dict[str, torch.Tensor]]:
    """Give a block its weights in the arithmetic of the forward pass; afterwards it has what it had before."""
    tensors = {
        name: tensor.to(how.device, how.dtype if tensor.is_floating_point() else None)
        for name, tensor in part.tensors.items()
    }
    undo = disk.fill(model.module, tensors)
    try:
        yield tensors
    finally:
        undo()


@contextlib.contextmanager
def _ready(module: Any, device: str) -> Iterator[None]:
    """Have a model run without a cache, and experts one after the other, so that each product is seen."""
    config, held = module.config, {}
    for name, value in (("use_cache", False), ("_experts_implementation", "eager")):
        if hasattr(config, name):
            held[name] = getattr(config, name)
            setattr(config, name, value)
    for name, buffer in module.named_buffers():
        if buffer.device.type not in ("meta", device.partition(":")[0]):
            disk.fill(module, {name: buffer.to(device)})
    try:
        yield
    finally:
        for name, value in held.items():
            setattr(config, name, value)
