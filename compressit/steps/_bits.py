"""How many bits each matrix gets: as rules say, or under a budget where the model's answers feel them most."""

from __future__ import annotations

import json
import os
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from compressit import anatomy
from compressit.algorithms.gptq import nearest
from compressit.algorithms.spending import afford
from compressit.data.walking import Group
from compressit.model import Model
from compressit.model.matrices import Matrix
from compressit.steps import Notes, StepContext
from compressit.steps._feeling import felt
from compressit.steps._quantizing import Config, afforded, by_rules

if TYPE_CHECKING:
    import torch

FILE = "bits.json"
"""Where a step keeps what it has measured, in its scratch folder: a killed one goes on with the same bits."""


def settled(model: Model, matrices: Mapping[str, Matrix], config: Config, context: StepContext) -> dict[str, Config]:
    """Give each matrix its own settings.

    Args:
        model: Left as it is; its weights are in memory where a budget is spent.
        matrices: Those that are quantized.
        config: Fields of the step.
        context: With calibration rows where a budget is spent, and scratch.

    Raises:
        RecipeError: a rule matches nothing, or the budget is too small.
    """
    if config.average_bits is None:
        own = by_rules(config, list(matrices))
        _warn(model, {name: each.bits for name, each in own.items()}, context)
        return own
    file = context.scratch / FILE
    if not file.is_file():
        _keep(file, _spent(model, matrices, config, context))
    bits: dict[str, int] = json.loads(file.read_text(encoding="utf-8"))
    return {name: config.at(bits[name]) for name in matrices}


def counted(own: Mapping[str, Config]) -> Notes:
    """Count layers by their bits, where they differ."""
    found = Counter(each.bits for each in own.values())
    return {f"layers_of_{bits}_bits": found[bits] for bits in sorted(found)} if len(found) > 1 else {}


def divided(group: Group, own: Mapping[str, Config]) -> Iterator[tuple[Config, Group]]:
    """Divide matrices that see the same inputs by their settings."""
    parts: dict[str, list[Matrix]] = {}
    for matrix in group.matrices:
        parts.setdefault(repr(own[matrix.name]), []).append(matrix)
    for matrices in parts.values():
        yield own[matrices[0].name], Group(tuple(matrices), group.statistic)


def _spent(model: Model, matrices: Mapping[str, Matrix], config: Config, context: StepContext) -> dict[str, int]:
    """Spend the budget: bits of each matrix."""
    assert config.average_bits is not None, "asked for"
    schemes = [config.at(bits).scheme for bits in config.widths]
    state = model.module.state_dict(keep_vars=True)
    shapes = {}
    for name, matrix in matrices.items():
        weight_OI = matrix.of(state)
        shapes[name] = (*weight_OI.shape, 8 * weight_OI.element_size())
    budget = afforded(config.average_bits, [(schemes[0], *shape) for shape in shapes.values()])
    parts = _together(model, list(matrices))
    costs = [[sum(scheme.packed_bits(*shapes[name]) for name in part) for scheme in schemes] for part in parts]

    def change(matrix: Matrix, weight_OI: torch.Tensor, bits: float) -> torch.Tensor:
        grid = config.at(int(bits)).grid(matrix.of(state).dtype)
        return nearest(weight_OI, grid).weight_OI

    asked = {part[0]: [matrices[name] for name in part] for part in parts}
    prices = felt(model, asked, config.widths, change, context)
    places = afford([prices[part[0]] for part in parts], costs, budget)
    return {name: config.widths[place] for part, place in zip(parts, places, strict=True) for name in part}


def _together(model: Model, names: Sequence[str]) -> list[list[str]]:
    """Put matrices together that runtimes lay into one: each is in one part, in the order of the first."""
    leader: dict[str, str] = {}
    for block, _ in model.blocks():
        for fused in anatomy.fused(model.module, block):
            leader |= dict.fromkeys(fused, fused[0])
    model_type = model.module.config.model_type
    parts: dict[str, list[str]] = {}
    for name in names:
        whose = "experts" if anatomy.is_expert(model_type, name) else leader.get(name, name)
        parts.setdefault(whose, []).append(name)
    return list(parts.values())


def _warn(model: Model, bits: Mapping[str, int], context: StepContext) -> None:
    for part in _together(model, list(bits)):
        if len({bits[name] for name in part}) > 1:
            context.progress.say(
                f"warning: {', '.join(part)} differ in their bits; runtimes that lay them into one matrix, such as "
                "vLLM, can't open that"
            )
            return


def _keep(file: Path, bits: Mapping[str, int]) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    partial = file.with_suffix(".partial")
    partial.write_text(json.dumps(bits, indent=1) + "\n", encoding="utf-8")
    os.replace(partial, file)
