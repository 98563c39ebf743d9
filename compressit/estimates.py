"""What a run will take, foreseen from the recipe and the table of weights alone: memory, disk, time."""

from __future__ import annotations

import re
import time
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass

from compressit import anatomy, machine, metrics, rules, tasks
from compressit.data.walking.blocks import WAITING
from compressit.measure import BATCH
from compressit.measure.examples import LOGITS
from compressit.recipe import Recipe
from compressit.steps import Need, StepConfig
from compressit.tasks._continuing import CONTEXT
from compressit.weights import Weight, Weights

LIBRARIES = 900_000_000
"""Bytes of memory that torch, transformers and datasets take before any model is there."""
TOKENS = 512
"""Tokens of a calibration text where the recipe doesn't cut it."""
FASTER = 2.5
"""How much faster than float32 a processor with bfloat16 multiplies, measured on AVX-512."""


@dataclass(frozen=True)
class Disk:
    """Bytes on disk at the peak.

    Attributes:
        result: Where the result is put together, what goes along with that included.
        steps: What is kept of each step, in the cache.
        scratch: What else lies in the cache for as long as the run takes.
        shared: Of the result, what shares its bytes with what is kept of the last step, where both are on one disk.
    """

    result: int
    steps: tuple[int, ...]
    scratch: int
    shared: int

    @property
    def bytes(self) -> int:
        """All in all."""
        return self.result + sum(self.steps) + self.scratch - self.shared


@dataclass(frozen=True)
class Cost:
    """Estimates.

    Attributes:
        memory: Bytes at the peak.
        seconds: Of walks; None without any.
        whole: Bytes that measuring takes with all weights in memory.
        on_disk: That many are not free, so weights stay on disk while they are measured.
    """

    memory: int
    disk: Disk
    seconds: int | None
    whole: int
    on_disk: bool


def of(recipe: Recipe, before: Weights, after: Sequence[Weights | None], *, streams: bool) -> Cost:
    """Estimate a run.

    Args:
        recipe: What is done.
        before: The model's weights.
        after: They after each step; None where they can't be foreseen.
        streams: Weights stay on disk.
    """
    final = after[-1] if after and after[-1] else before
    tables = [before, *(table or before for table in after)]
    peaks = [0 if streams else before.bytes]
    for step, table in zip(recipe.steps, tables, strict=False):
        held = 0 if streams else table.bytes
        walk = _walk(recipe, step, table) if step.streaming() or step.walks() else 0
        peaks.append(held + (walk if step.streaming() else max(walk, _training(step, table, before))))
    peaks += [8 * final.parameters] * bool(recipe.exports)
    unpacked = round(final.parameters * before.bytes / max(1, before.parameters))
    # The runner still has the model, unless its weights stay on disk.
    beside = (0 if streams else max(before.bytes, unpacked)) + _batch(recipe, before)
    whole = LIBRARIES + beside + _opened(recipe, before.bytes, unpacked)
    # The one place that decides. An export is made of all weights, and its runtime holds them all.
    on_disk = not recipe.exports and whole > machine.free_memory()
    peaks.append(beside + 2 * 4 * _blocks(before)[0] if on_disk else whole - LIBRARIES)
    exported = 4 * final.parameters * len(recipe.exports)
    kept = tuple(_kept(table, before, streams=streams) for table in tables[1:])
    disk = Disk(
        # What a step made is saved for as long as it is measured, where what is kept of it can't be.
        result=final.bytes + exported + (unpacked if on_disk and final.bytes < unpacked else 0)
        + max((table.bytes for table in tables[1:-1] if streams or table.quantized), default=0),
        steps=kept,
        scratch=4 * before.parameters * bool(exported) + max(map(_scratch, recipe.steps, kept, tables), default=0),
        shared=0 if streams or final.quantized or not kept else final.bytes,
    )  # fmt: skip
    walked = [step for step in recipe.steps if step.walks()]
    seconds = round(sum(_seconds(recipe, step, before) for step in walked)) if walked else None
    return Cost(LIBRARIES + max(peaks), disk, seconds, whole, on_disk)


def _kept(table: Weights, before: Weights, *, streams: bool) -> int:
    """Count what is kept of a step: in memory floats, and integers besides; of weights on disk what was changed."""
    floats = round(table.parameters * before.bytes / max(1, before.parameters))
    if not table.quantized:
        return table.bytes
    return table.parameters + (0 if streams else floats)


def _scratch(step: StepConfig, kept: int, table: Weights) -> int:
    """Count what a step can go on from: of a training two checkpoints with AdamW's moments; else what is kept."""
    return 2 * 3 * 4 * table.parameters if Need.TRAINING in step.needs() else kept


def _opened(recipe: Recipe, original: int, unpacked: int) -> int:
    """Count what is open at once: an artifact, unpacked, and the original where the two are compared; timed, twice."""
    configs = rules.measured(recipe) if recipe.dataset else ()
    timed = any(config.batch_sizes() for config in configs)
    if timed or any(getattr(metrics.load(config.metric), "TO_ORIGINAL", False) for config in configs):
        return original * (2 if timed and machine.spares(original) else 1) + unpacked
    return max(original, unpacked)


def _batch(recipe: Recipe, table: Weights) -> int:
    """What flows through a block, and of a language model both models' logits, as they are computed and as float32."""
    spec = recipe.dataset
    if spec is None:
        return 0
    widest = max(
        (max(weight.shape) for name, weight in table.linears().items() if table.inside_blocks(name)), default=0
    )
    if not tasks.load(recipe.task).OUTPUT.PAIRED:
        return 4 * 4 * widest * BATCH * (spec.max_length or TOKENS)
    vocabulary = max((tensor.shape[0] for tensor in table.tensors if len(tensor.shape) == 2), default=1)
    window = spec.max_length or CONTEXT
    tokens = max(window, min(BATCH * window, LOGITS // vocabulary))
    return tokens * (4 * 4 * widest + 2 * 6 * vocabulary)


def _blocks(table: Weights) -> tuple[int, int]:
    """Count the weights of the largest block, and the bytes of what is outside the blocks."""
    blocks: dict[str | None, list[Weight]] = defaultdict(list)
    for tensor in table.tensors:
        blocks[anatomy.block_name(table.model_type, tensor.name)].append(tensor)
    outside = sum(tensor.elements * tensor.bits / 8 for tensor in blocks.pop(None, []))
    return max((sum(tensor.elements for tensor in block) for block in blocks.values()), default=0), round(outside)


def _training(step: StepConfig, table: Weights, before: Weights) -> int:
    # Weights, gradients and AdamW's two moments; and a teacher beside them.
    trains, taught = Need.TRAINING in step.needs(), Need.TEACHER in step.needs()
    return 4 * table.parameters * (3 if trains else 1) + (4 * before.parameters if taught else 0)


def _walk(recipe: Recipe, step: StepConfig, table: Weights) -> int:
    """Two blocks, the largest Hessian and its factor, embeddings, what flows between blocks, and passes that wait."""
    largest, outside = _blocks(table)
    inputs = max((weight.shape[1] for weight in table.linears().values()), default=0)
    inputs = max(inputs, _patch(table))
    width = min((weight.shape[1] for weight in table.linears().values()), default=0)
    flowing = _tokens(recipe) * width * (2 if machine.has_bfloat16() else 4)
    flowing *= 1 + WAITING if step.waits() else 1
    return round(2 * 4 * largest + 6 * 4 * inputs**2 + outside + min(flowing, machine.free_memory() // 3))


def _patch(table: Weights) -> int:
    """Count the inputs of the convolution that reads most between two others; 0 without any."""
    reading = [
        tensor
        for tensor in table.tensors
        if any(axis == 1 for _, axis in anatomy.between_axes(table.model_type, tensor.name))
    ]
    return max((tensor.elements // tensor.shape[0] for tensor in reading), default=0)


def _tokens(recipe: Recipe) -> int:
    """Count calibration tokens, as far as the recipe tells."""
    spec = recipe.dataset
    if spec is None or spec.calibration is None:
        return 0
    found = re.search(r"\[(\d*):(\d+)\]", spec.calibration)
    rows = int(found[2]) - int(found[1] or 0) if found else TOKENS
    return rows * (spec.max_length or TOKENS)


def _seconds(recipe: Recipe, step: StepConfig, table: Weights) -> float:
    """Time a walk at the speed that this processor multiplies with.

    A pass takes about twice what its products do. Steps whose passes wait make one, and half of each Hessian, which is
    symmetric; the others make two passes.
    """
    inside = {name: weight for name, weight in table.linears().items() if table.inside_blocks(name)}
    weights = sum(weight.elements for weight in inside.values())
    float32 = _flops()
    products = 2 * 2 * weights / (float32 * (FASTER if machine.has_bfloat16() else 1))
    hessians = sum(weight.shape[1] ** 2 for weight in inside.values()) / float32
    return step.walks() * _tokens(recipe) * (products + hessians if step.waits() else 2 * products)


def _flops() -> float:
    """Measure how many float32 operations a second numpy multiplies with, in a twentieth of a second."""
    import numpy as np

    square = np.ones((512, 512), np.float32)
    square @ square
    begun, times = time.perf_counter(), 0
    while time.perf_counter() - begun < 0.05:
        square @ square
        times += 1
    return times * 2 * 512**3 / (time.perf_counter() - begun)
