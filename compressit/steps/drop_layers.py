"""Remove whole transformer blocks.

The cheapest way to a faster encoder: latency falls in proportion to depth, and distillation brings the quality back.
Which blocks go: `spaced` keeps them evenly from first to last, as DistilBERT did (Sanh et al. 2019, arXiv:1910.01108);
`first` and `last` keep one end; `influence` drops those that change their input least, measured by the mean cosine
between a block's input and output over the real tokens of the calibration split (Men et al. 2024, arXiv:2403.03853);
`divergence` drops one after the other, each time the one without which the model's answers there change least (Kullback
and Leibler's measure): a pass for each block that is left, each time, and mostly the better choice.

Recipe::

    - step: drop_layers
      keep: 2
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal

from pydantic import Field

from compressit import anatomy, weights
from compressit.errors import RecipeError
from compressit.model import Model
from compressit.steps import Fact, Need, Notes, StepConfig, StepContext
from compressit.steps._answers import said, worth
from compressit.steps._calibration import batches
from compressit.weights import Weights

if TYPE_CHECKING:
    pass

MEASURED = ("influence", "divergence")


class Config(StepConfig):
    """Fields of the step."""

    makes: ClassVar[frozenset[Fact]] = frozenset({Fact.SHAPES})
    keeps: ClassVar[frozenset[Fact]] = frozenset({Fact.SHAPES, Fact.SPARSITY, Fact.DTYPE})

    keep: Annotated[int, Field(ge=1)] | Annotated[tuple[Annotated[int, Field(ge=0)], ...], Field(min_length=1)]
    """How many blocks stay, or a list of which ones (counted from 0)."""
    choose: Literal["spaced", "first", "last", "influence", "divergence"] = "spaced"
    """Which blocks stay when `keep` is a number."""
    batch_size: int = Field(16, ge=1)
    """Examples at once while anything is measured."""

    def needs(self) -> frozenset[Need]:
        """Ask for calibration data where the choice is measured."""
        measured = self.choose in MEASURED and isinstance(self.keep, int)
        return frozenset({Need.CALIBRATION}) if measured else frozenset()


def run(model: Model, config: Config, context: StepContext) -> Notes:
    """Cut the blocks out, in place."""
    _check(model.module.config.model_type)
    depth = len(model.blocks())
    kept = chosen(config, depth)
    if isinstance(config.keep, int) and config.choose == "influence":
        influence = measure_influence(model, config, context)
        kept = sorted(sorted(range(depth), key=lambda index: -influence[index])[: config.keep])
    elif isinstance(config.keep, int) and config.choose == "divergence":
        kept = list(range(depth))
        while len(kept) > config.keep:
            divergence = measure_divergence(model, config, context, kept)
            kept.remove(min(divergence, key=lambda index: divergence[index]))
    anatomy.keep_blocks(model.module, kept)
    return {"kept": ", ".join(map(str, kept)), "dropped": depth - len(kept)}


def foresee(table: Weights, config: Config) -> Weights:
    """Drop the blocks' tensors from the table."""
    _check(table.model_type)
    kept = set(chosen(config, table.blocks()))
    indices = {tensor.name: anatomy.block_index(table.model_type, tensor.name) for tensor in table.tensors}
    return table.changed(t for t in table.tensors if indices[t.name] is None or indices[t.name] in kept)


def claim(folder: Path, config: Config) -> str | None:
    """Count the blocks of the saved checkpoint."""
    promised = config.keep if isinstance(config.keep, int) else len(config.keep)
    found = weights.read(folder).blocks()
    return None if found <= promised else f"the checkpoint has {found} blocks, {promised} were to stay"


def _check(model_type: str) -> None:
    if why := anatomy.whole(model_type):
        raise RecipeError(why, hint="cut heads and neurons instead: prune_structured, or prune_ffn")


def chosen(config: Config, depth: int) -> list[int]:
    """Choose the blocks to keep; where that is measured later, a stand-in of the same number."""
    if not isinstance(config.keep, int):
        if sorted(set(config.keep)) != list(config.keep):
            raise RecipeError(f"keep: {list(config.keep)} must rise without repeats")
        if config.keep[-1] >= depth:
            raise RecipeError(f"keep: there is no block {config.keep[-1]}; the model's are 0 to {depth - 1}")
        return list(config.keep)
    count = config.keep
    if count >= depth:
        raise RecipeError(f"keep: {count} of {depth} blocks leaves nothing to drop", hint=f"keep at most {depth - 1}")
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
    real: Any = None

    def watch(index: int) -> Any:
        def hook(block: Any, args: Any, kwargs: Any, output: Any) -> None:
            before = args[0] if args else kwargs["hidden_states"]
            after = output[0] if isinstance(output, tuple) else output
            cosine = torch.cosine_similarity(before.float(), after.float(), dim=-1)
            cosine = cosine[real] if real is not None else cosine
            sums[index] += cosine.sum().item()
            seen[index] += cosine.numel()

        return hook

    hooks = [block.register_forward_hook(watch(i), with_kwargs=True) for i, (_, block) in enumerate(blocks)]
    try:
        with torch.no_grad():
            for inputs, _ in batches(model, config.batch_size, context, "influence"):
                mask = inputs.get("attention_mask")
                real = mask.bool() if mask is not None else None
                model.module(**inputs)
    finally:
        for hook in hooks:
            hook.remove()
    return [float(share) for share in 1 - sums / seen]


def measure_divergence(model: Model, config: Config, context: StepContext, kept: Sequence[int]) -> dict[int, float]:
    """Measure how far the answers of the blocks in `kept` without one of them are from the whole model's, for each.

    Returns:
        By block, the mean Kullback-Leibler divergence over examples; that of one with many answers is their mean.
    """
    import torch

    sums, seen = dict.fromkeys(kept, 0.0), 0
    gone = set(range(len(model.blocks()))) - {*kept}
    with torch.no_grad():
        for inputs, labels in batches(model, config.batch_size, context, "divergence"):
            with _noting(model) as rests:
                whole = said(model, inputs)
            for index in kept:
                with _skipping(model, {each: rests[each] for each in gone | {index}}):
                    less = said(model, inputs)
                sums[index] += worth(model.task).apart(model.task, whole, less, labels)
            seen += len(labels)
    return {index: total / max(1, seen) for index, total in sums.items()}


@contextlib.contextmanager
def _noting(model: Model) -> Iterator[dict[int, tuple[Any, ...] | None]]:
    """Note what each block hands on besides the hidden states; None where it gives a tensor."""
    rests: dict[int, tuple[Any, ...] | None] = {}

    def note(index: int) -> Callable[..., None]:
        def hook(block: Any, args: Any, output: Any) -> None:
            rests[index] = output[1:] if isinstance(output, tuple) else None

        return hook

    with contextlib.ExitStack() as stack:
        for index, (_, block) in enumerate(model.blocks()):
            stack.callback(block.register_forward_hook(note(index)).remove)
        yield rests


@contextlib.contextmanager
def _skipping(model: Model, rests: Mapping[int, tuple[Any, ...] | None]) -> Iterator[None]:
    """Have blocks hand on what they get, and what goes along with it."""

    def handing_on(rest: tuple[Any, ...] | None) -> Callable[..., Any]:
        def forward(*args: Any, **kwargs: Any) -> Any:
            hidden = args[0] if args else kwargs["hidden_states"]
            return hidden if rest is None else (hidden, *rest)

        return forward

    blocks = [model.blocks()[index][1] for index in rests]
    for block, rest in zip(blocks, rests.values(), strict=True):
        block.forward = handing_on(rest)
    try:
        yield
    finally:
        for block in blocks:
            del block.forward
