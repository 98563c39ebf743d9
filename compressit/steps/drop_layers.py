"""Remove whole blocks.

The cheapest way to a faster encoder: latency falls in proportion to depth, and distillation brings the quality back.
Which blocks go: `spaced` keeps them evenly from first to last, as DistilBERT did (Sanh et al. 2019, arXiv:1910.01108);
`first` and `last` keep one end; `influence` drops those that change their input least, measured by the mean cosine
between a block's input and output over the real tokens of the calibration split (Men et al. 2024, arXiv:2403.03853);
`divergence` drops one after the other, each time the one without which the model's answers there change least (Kullback
and Leibler's measure): a pass for each block that is left, each time, and mostly the better choice.

Where a model has an encoder and a decoder each keeps so many and chooses for itself, but `divergence` drops whichever
block of both is missed least; `stack: decoder` leaves the encoder whole. The position biases that T5's first blocks
hold go to whichever block comes first. ModernBERT's first block, which is unlike the others, always stays. Blocks of
ConvNeXt and ResNet are counted over all stages: a stage of ConvNeXt may lose all of its own, one of ResNet keeps the
first.

Recipe::

    - step: drop_layers
      keep: 2
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import chain, groupby
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal

from pydantic import Field

from compressit import anatomy, weights
from compressit.errors import RecipeError
from compressit.model import Model
from compressit.model.skipping import noting, skipping
from compressit.steps import Dial, Fact, Need, Notes, StepConfig, StepContext
from compressit.steps._answers import said, worth
from compressit.steps._calibration import batches, real
from compressit.weights import Weight, Weights

MEASURED = ("influence", "divergence")


class Config(StepConfig):
    """Fields of the step."""

    makes: ClassVar[frozenset[Fact]] = frozenset({Fact.SHAPES})
    keeps: ClassVar[frozenset[Fact]] = frozenset({Fact.SHAPES, Fact.SPARSITY, Fact.DTYPE, Fact.FACTORS})

    keep: Annotated[int, Field(ge=1)] | Annotated[tuple[Annotated[int, Field(ge=0)], ...], Field(min_length=1)]
    """How many blocks stay, or a list of which ones (counted from 0)."""
    choose: Literal["spaced", "first", "last", "influence", "divergence"] = "spaced"
    """Which blocks stay when `keep` is a number."""
    stack: Literal["all", "encoder", "decoder"] = "all"
    """Which blocks are dropped where a model has an encoder and a decoder; with `all` each keeps so many."""
    batch_size: int = Field(16, ge=1)
    """Examples at once while anything is measured."""

    def idle(self) -> Mapping[str, str]:
        """Name what says which blocks stay where a list does, and how to measure where nothing is measured."""
        found = {} if isinstance(self.keep, int) else {"choose": "a number to keep"}
        return found if self.needs() else {**found, "batch_size": f"choose: {' or '.join(MEASURED)}"}

    def dial(self, table: Weights | None) -> Dial | None:
        """Turn the number of blocks that stay; a list of them says which, and stays."""
        if not isinstance(self.keep, int) or table is None or not (count := min(table.stacks().values(), default=0)):
            return None
        return Dial("keep", 1 - self.keep / count, lambda share: max(1, round((1 - share) * count)))

    def needs(self) -> frozenset[Need]:
        """Ask for calibration data where the choice is measured."""
        measured = self.choose in MEASURED and isinstance(self.keep, int)
        return frozenset({Need.CALIBRATION}) if measured else frozenset()


@dataclass(frozen=True)
class _List:
    """A stack's blocks, counted over all stacks; how many are to stay; and which of them have to."""

    blocks: range
    keep: int
    stays: frozenset[int]


def run(model: Model, config: Config, context: StepContext) -> Notes:
    """Cut the blocks out, in place."""
    model_type = model.module.config.model_type
    touched, stacks = _touched(config, model_type), anatomy.family(model_type).stacks
    lengths = [_lengths(name for name, _ in stack) for stack in anatomy.stacks(model.module)]
    depths = [sum(own) for own in lengths]
    kept = _chosen(config, model_type, touched, lengths)
    if isinstance(config.keep, int) and config.choose in MEASURED:
        starts = [sum(depths[:place]) for place in range(len(depths))]
        lists = [
            _List(range(start, start + sum(each)), len(own), frozenset(start + index for index in _fixed(stack, each)))
            for start, each, own, stack in zip(starts, lengths, kept, stacks, strict=True)
        ]
        measured = _by_influence if config.choose == "influence" else _by_divergence
        found = measured(model, config, context, lists)
        kept = [[index - start for index in own] for start, own in zip(starts, found, strict=True)]
    anatomy.keep_blocks(model.module, *kept)
    said = [", ".join(map(str, own)) for own in kept]
    if len(kept) > 1:
        said = [f"{stack.name}: {own}" for stack, own in zip(stacks, said, strict=True)]
    return {"kept": "; ".join(said), "dropped": sum(depths) - sum(map(len, kept))}


def foresee(table: Weights, config: Config) -> Weights:
    """Drop the blocks' tensors from the table."""
    blocks = _blocks(table)
    lengths = [_lengths(own) for own in blocks]
    names = _renumbered(blocks, _chosen(config, table.model_type, _touched(config, table.model_type), lengths))
    left = (_left(tensor, anatomy.place(table.model_type, tensor.name), names) for tensor in table.tensors)
    return table.changed(tensor for tensor in left if tensor is not None)


def _blocks(table: Weights) -> list[list[str]]:
    """Name the blocks of each stack in their order."""
    places = [anatomy.place(table.model_type, tensor.name) for tensor in table.tensors]
    found = []
    for stack in anatomy.family(table.model_type).stacks:
        blocks = {place.block for place in places if place and place.stack.path == stack.path}
        found.append(sorted(blocks, key=lambda block: [int(number) for number in re.findall(r"\d+", block)]))
    return found


def _lengths(blocks: Iterable[str]) -> list[int]:
    """Count the blocks of each list, by the names of all."""
    return [len([*own]) for _, own in groupby(blocks, lambda block: block.rpartition(".")[0])]


def _fixed(stack: anatomy.Stack, lengths: Sequence[int]) -> list[int]:
    """Say which blocks of a stack have to stay."""
    if stack.stays is None:
        return []
    return [sum(lengths[:place]) for place in range(len(lengths))] if stack.staged else [0]


def _renumbered(blocks: Sequence[Sequence[str]], kept: Sequence[Sequence[int]]) -> dict[str, str]:
    """Give the blocks that stay their new names, by the old ones: blocks are counted anew in each list."""
    found: dict[str, str] = {}
    before: Counter[str] = Counter()
    for own, indices in zip(blocks, kept, strict=True):
        for block in (own[index] for index in indices):
            above = block.rpartition(".")[0]
            found[block] = f"{above}.{before[above]}"
            before[above] += 1
    return found


def _left(tensor: Weight, place: anatomy.Place | None, names: Mapping[str, str]) -> Weight | None:
    """Say what becomes of a tensor: what only the first block has goes to whichever comes first."""
    if place is None:
        return tensor
    leads = place.stack.leads(place.below)
    block = f"{place.block.rpartition('.')[0]}.0" if leads else names.get(place.block)
    return replace(tensor, name=f"{block}.{place.below}") if block else None


def claim(folder: Path, config: Config) -> str | None:
    """Count the blocks of the saved checkpoint."""
    promised = config.keep if isinstance(config.keep, int) else len(config.keep)
    table = weights.read(folder)
    for found, touched in zip(table.stacks().values(), _touched(config, table.model_type), strict=True):
        if touched and found > promised:
            return f"the checkpoint has {found} blocks, {promised} were to stay"
    return None


def _touched(config: Config, model_type: str) -> list[bool]:
    """Say of each stack whether it loses blocks."""
    if why := anatomy.whole(model_type):
        raise RecipeError(why, hint="cut heads and neurons instead: prune_structured, or prune_ffn")
    names = [stack.name for stack in anatomy.family(model_type).stacks]
    if config.stack == "all":
        return [True] * len(names)
    if len(names) == 1:
        raise RecipeError(f"stack: {config.stack}: {model_type} has one stack of blocks", hint="leave `stack` out")
    return [name == config.stack for name in names]


def _chosen(
    config: Config, model_type: str, touched: Sequence[bool], lengths: Sequence[Sequence[int]]
) -> list[list[int]]:
    """Choose the blocks to keep of each stack; where that is measured later, stand-ins of the same number."""
    found = []
    for stack, own, each in zip(anatomy.family(model_type).stacks, touched, lengths, strict=True):
        fixed = _fixed(stack, each)
        several, depth = sum(touched) > 1, sum(each)
        if not own:
            kept = list(range(depth))
        elif stack.staged and fixed and isinstance(config.keep, int):
            kept = _among(config, depth, fixed)
        else:
            kept = chosen(config, depth, several=several)
        if missing := [index for index in fixed if index not in kept]:
            which = f"block {missing[0]}" if stack.staged else "the first block"
            raise RecipeError(
                f"{which} of {model_type} can't be dropped: {stack.stays}", hint=f"keep block {missing[0]}"
            )
        found.append(kept)
    return found


def _among(config: Config, depth: int, fixed: Sequence[int]) -> list[int]:
    """Choose some blocks besides those that have to stay."""
    assert isinstance(config.keep, int), "a list says which"
    more, others = config.keep - len(fixed), [index for index in range(depth) if index not in fixed]
    if more < 0:
        raise RecipeError(
            f"keep: {config.keep} of {depth} blocks is too few: each of {len(fixed)} stages keeps its first",
            hint=f"keep {len(fixed)} or more",
        )
    if config.keep >= depth:
        return chosen(config, depth)
    places = chosen(config.model_copy(update={"keep": more}), len(others)) if more else []
    return sorted([*fixed, *(others[place] for place in places)])


def _by_influence(model: Model, config: Config, context: StepContext, lists: Sequence[_List]) -> list[list[int]]:
    influence = measure_influence(model, config, context)
    kept = []
    for own in lists:
        ranked = sorted(own.blocks, key=lambda index: (index not in own.stays, -influence[index]))
        kept.append(sorted(ranked[: own.keep]))
    return kept


def _by_divergence(model: Model, config: Config, context: StepContext, lists: Sequence[_List]) -> list[list[int]]:
    kept = [list(own.blocks) for own in lists]
    while True:
        long = [(own, found) for own, found in zip(lists, kept, strict=True) if len(found) > own.keep]
        if not long:
            return kept
        among = [index for own, found in long for index in found if index not in own.stays]
        divergence = measure_divergence(model, config, context, [*chain(*kept)], among)
        least = min(divergence, key=divergence.__getitem__)
        next(found for _, found in long if least in found).remove(least)


def chosen(config: Config, depth: int, *, several: bool = False) -> list[int]:
    """Choose the blocks of a stack to keep, maybe one of several; where that is measured later, a stand-in."""
    if not isinstance(config.keep, int):
        if sorted(set(config.keep)) != list(config.keep):
            raise RecipeError(f"keep: {list(config.keep)} must rise without repeats")
        if config.keep[-1] >= depth:
            raise RecipeError(f"keep: there is no block {config.keep[-1]}; the model's are 0 to {depth - 1}")
        return list(config.keep)
    count = config.keep
    if count >= depth:
        raise RecipeError(
            f"keep: {count} of {depth} blocks leaves nothing to drop",
            hint=f"keep at most {depth - 1}" + (", or say which `stack` loses blocks" if several else ""),
        )
    if config.choose == "last":
        return list(range(depth - count, depth))
    if config.choose == "first" or count == 1:
        return list(range(count))
    return [round(index * (depth - 1) / (count - 1)) for index in range(count)]


def measure_influence(model: Model, config: Config, context: StepContext) -> list[float]:
    """Measure each block's influence: 1 - mean cosine of its input and output over real tokens."""
    import torch

    blocks = model.blocks()
    sums, seen = torch.zeros(len(blocks), dtype=torch.float64), torch.zeros(len(blocks), dtype=torch.float64)
    given: dict[str, Any] = {}

    def watch(index: int, name: str) -> Any:
        def hook(block: Any, args: Any, kwargs: Any, output: Any) -> None:
            before = args[0] if args else kwargs["hidden_states"]
            after = output[0] if isinstance(output, tuple) else output
            if before.shape != after.shape:
                # The first of a stage, which stays.
                seen[index] = 1
                return
            # Pictures are (B, C, H, W).
            cosine = torch.cosine_similarity(before.float(), after.float(), dim=1 if before.dim() == 4 else -1)
            # A classifier's decoder reads the same tokens, one later: as many positions are real.
            here = real(model, given, name)
            cosine = cosine[here] if here is not None else cosine
            sums[index] += cosine.sum().item()
            seen[index] += cosine.numel()

        return hook

    hooks = [block.register_forward_hook(watch(i, name), with_kwargs=True) for i, (name, block) in enumerate(blocks)]
    try:
        with torch.no_grad():
            for inputs, _ in batches(model, config.batch_size, context, "influence"):
                given = inputs
                model.module(**inputs)
    finally:
        for hook in hooks:
            hook.remove()
    return [float(share) for share in 1 - sums / seen]


def measure_divergence(
    model: Model, config: Config, context: StepContext, kept: Sequence[int], among: Sequence[int] | None = None
) -> dict[int, float]:
    """Measure how far the answers of the blocks in `kept` without one of them are from the whole model's.

    It is measured for each of them, or each in `among`; blocks are counted over all stacks.

    Returns:
        By block, the mean Kullback-Leibler divergence over examples; that of one with many answers is their mean.
    """
    import torch

    among = kept if among is None else among
    sums, seen = dict.fromkeys(among, 0.0), 0
    gone = set(range(len(model.blocks()))) - {*kept}
    with torch.no_grad():
        for inputs, labels in batches(model, config.batch_size, context, "divergence"):
            with noting(model) as rests:
                whole = said(model, inputs)
            for index in among:
                with skipping(model, {each: rests[each] for each in gone | {index}}):
                    less = said(model, inputs)
                sums[index] += worth(model.task).apart(model.task, whole, less, labels)
            seen += len(labels)
    return {index: total / max(1, seen) for index, total in sums.items()}
