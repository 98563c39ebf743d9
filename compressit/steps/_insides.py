"""What a student imitates of a teacher besides its answers: hidden states, and how tokens relate to each other."""

from __future__ import annotations

import contextlib
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Literal

from pydantic import Field

from compressit import anatomy, tasks
from compressit.algorithms import imitation
from compressit.errors import RecipeError, StepError
from compressit.steps._tapping import Layer, tapped
from compressit.steps._training import TrainingConfig

if TYPE_CHECKING:
    import torch

    from compressit.weights import Weights

LEARNED = "compressit_learned"
"""Where the matrices between widths hang on the student while it is trained."""
NOT_ONE_STACK = "hidden and relations are for models with one stack of different blocks, which a {} is not"
KINDS = ("query", "key", "value")


class InsideConfig(TrainingConfig):
    """Fields that say how much of the inside is imitated."""

    hidden: float = Field(0.0, ge=0)
    """Weight of the hidden states."""
    layers: Literal["even", "last"] | tuple[int, ...] = "even"
    """Which of the teacher's blocks each of the student's imitates: evenly spread ones, the last ones, or their
    numbers, counted from 0, one for each of the student's."""
    relations: float = Field(0.0, ge=0)
    """Weight of the relations between queries, keys and values."""
    relation_block: int | None = Field(None, ge=0)
    """The teacher's block whose relations the student's last imitates, counted from 0 (default: the last)."""
    relation_heads: int | None = Field(None, ge=1)
    """Heads that relations are cut into (default: as many as divide all widths, at most the teacher's)."""

    def idle(self) -> Mapping[str, str]:
        """Name what says how something is imitated that is not."""
        of_relations = {} if self.relations else dict.fromkeys(("relation_block", "relation_heads"), "relations")
        return {**super().idle(), **({} if self.hidden else {"layers": "hidden"}), **of_relations}

    @property
    def inner(self) -> bool:
        """Say whether the student imitates more than what the teacher says."""
        return self.hidden > 0 or self.relations > 0

    def unable(self, table: Weights) -> str | None:
        """Refuse what compares blocks of a model that has several stacks of them, or none that is known."""
        if self.by_labels() or not self.inner:
            return None
        known = anatomy.known(table.model_type)
        one = sum(count > 0 for count in table.stacks().values()) == 1
        if one and not known.repeated and not anatomy.staged(table.model_type):
            return None
        return NOT_ONE_STACK.format(table.model_type)


@contextlib.contextmanager
def insides(task: str, student: Any, teacher: Any, config: InsideConfig) -> Iterator[Callable[..., list[torch.Tensor]]]:
    """Give what tells the losses on the inside of two models, after each has run on the same inputs.

    Where widths differ, matrices between them hang on the student meanwhile.

    Raises:
        StepError: blocks of one of them form several stacks, or none that is known.
        RecipeError: the fields name blocks or heads that can't be.
    """
    if not config.hidden and not config.relations:
        yield lambda inputs: []
        return
    for module in (student, teacher):
        model_type = module.config.model_type
        several = anatomy.staged(model_type) or anatomy.family(model_type).repeated
        if several or len(anatomy.stacks(module)) != 1:
            raise StepError(f"distill: {NOT_ONE_STACK.format(model_type)}", hint="leave them out")
    few, many = (len(anatomy.blocks(module)) for module in (student, teacher))
    pairs = paired(few, many, config.layers) if config.hidden else []
    block = _relation_block(teacher, config) if config.relations else 0
    heads = _relation_heads(student, teacher, block, config) if config.relations else 1
    relating = config.relations > 0
    try:
        if config.hidden:
            _learn(student, anatomy.block_width(student), anatomy.block_width(teacher), len(pairs) + 1)
        with tapped(student, relating=relating) as own, tapped(teacher, relating=relating) as shown:

            def inside(inputs: Mapping[str, torch.Tensor]) -> list[torch.Tensor]:
                mask = tasks.positions(task, student, inputs)
                parts = []
                if config.hidden:
                    parts.append(config.hidden * _states(getattr(student, LEARNED, None), own, shown, pairs, mask))
                if config.relations:
                    parts.append(config.relations * _relations(own[-1], shown[block], heads, mask))
                return parts

            yield inside
    finally:
        if hasattr(student, LEARNED):
            delattr(student, LEARNED)


def paired(student: int, teacher: int, layers: Literal["even", "last"] | Sequence[int]) -> list[int]:
    """Say which of the teacher's blocks each of the student's imitates.

    Raises:
        RecipeError: the student has more than the teacher, or the recipe names others than there are.
    """
    if not isinstance(layers, str):
        if len(layers) != student or max(layers) >= teacher or min(layers) < 0:
            raise RecipeError(
                f"distill: layers names {len(layers)} blocks, {list(layers)}; the student has {student}, and the "
                f"teacher's are 0 to {teacher - 1}",
                hint="one of the teacher's for each of the student's, or `even`",
            )
        return list(layers)
    if student > teacher:
        raise RecipeError(
            f"distill: the student has {student} blocks and the teacher {teacher}",
            hint="name the blocks: layers: [...]",
        )
    if layers == "last":
        return list(range(teacher - student, teacher))
    return [round((index + 1) * teacher / student) - 1 for index in range(student)]


def _learn(student: Any, width: int, shown: int, count: int) -> None:
    """Hang matrices on the student that lead from its width to the teacher's, so that they are trained with it."""
    import torch
    from torch import nn

    if width == shown:
        return
    made = nn.ModuleList(nn.Linear(width, shown, bias=False) for _ in range(count))
    for each in made:
        nn.init.orthogonal_(each.weight)
    place = next(student.parameters())
    student.add_module(LEARNED, made.to(place.device, torch.float32))


def _states(
    learned: Any, own: Sequence[Layer], shown: Sequence[Layer], pairs: Sequence[int], mask: torch.Tensor | None
) -> torch.Tensor:
    """Average the difference ahead of the first block and after each."""
    given = [own[0].given, *(layer.made for layer in own)]
    wanted = [shown[0].given, *(shown[place].made for place in pairs)]
    parts = [
        imitation.states(state if learned is None else learned[place](state), aim, mask)
        for place, (state, aim) in enumerate(zip(given, wanted, strict=True))
    ]
    return sum(parts[1:], parts[0]) / len(parts)


def _relations(own: Layer, shown: Layer, heads: int, mask: torch.Tensor | None) -> torch.Tensor:
    seen = None if mask is None else mask[:, None, :] & mask[:, :, None]
    parts = [imitation.relations(own.relating[kind], shown.relating[kind], heads, seen) for kind in KINDS]
    return sum(parts[1:], parts[0]) / len(parts)


def _relation_block(teacher: Any, config: InsideConfig) -> int:
    depth = len(anatomy.blocks(teacher))
    if config.relation_block is not None and config.relation_block >= depth:
        raise RecipeError(
            f"distill: relation_block is {config.relation_block}; the teacher's are 0 to {depth - 1}",
            hint="leave it out for the last",
        )
    return depth - 1 if config.relation_block is None else config.relation_block


def _relation_heads(student: Any, teacher: Any, block: int, config: InsideConfig) -> int:
    """Say into how many heads relations are cut: a number that divides the widths of queries, keys and values."""
    found = []
    for module, place in ((student, -1), (teacher, block)):
        name, _ = anatomy.blocks(module)[place]
        found.append(anatomy.heads(module, name))
    widths = [count * each.head_dim for each in found for count in (each.count, each.groups)]
    common, wanted = math.gcd(*widths), config.relation_heads
    if wanted is None:
        return max(count for count in range(1, found[1].count + 1) if common % count == 0)
    if common % wanted:
        raise RecipeError(
            f"distill: {wanted} relation_heads don't divide queries and keys of {', '.join(map(str, widths))} channels",
            hint="leave relation_heads out for the most that do",
        )
    return wanted
