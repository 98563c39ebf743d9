"""Remove whole transformer blocks.

The cheapest way to a faster encoder: latency falls in proportion to depth, and distillation brings the quality back.
Which blocks go: `spaced` keeps them evenly from first to last, as DistilBERT did (Sanh et al. 2019, arXiv:1910.01108);
`first` and `last` keep one end; `influence` drops those that change their input least, measured by the mean cosine
between a block's input and output over the real tokens of the calibration split (Men et al. 2024, arXiv:2403.03853).

Recipe::

    - step: drop_layers
      keep: 2
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal

from pydantic import Field

from compressit import anatomy, weights
from compressit.errors import RecipeError
from compressit.model import Model
from compressit.steps import Fact, Need, Notes, StepConfig, StepContext
from compressit.weights import Weights


class Config(StepConfig):
    """Fields of the step."""

    makes: ClassVar[frozenset[Fact]] = frozenset({Fact.SHAPES})
    keeps: ClassVar[frozenset[Fact]] = frozenset({Fact.SHAPES, Fact.SPARSITY, Fact.DTYPE})

    keep: Annotated[int, Field(ge=1)] | Annotated[tuple[Annotated[int, Field(ge=0)], ...], Field(min_length=1)]
    """How many blocks stay, or a list of which ones (counted from 0)."""
    choose: Literal["spaced", "first", "last", "influence"] = "spaced"
    """Which blocks stay when `keep` is a number."""
    batch_size: int = Field(16, ge=1)
    """Examples at once while influence is measured."""

    def needs(self) -> frozenset[Need]:
        """Ask for calibration data where the choice is measured."""
        measured = self.choose == "influence" and isinstance(self.keep, int)
        return frozenset({Need.CALIBRATION}) if measured else frozenset()


def run(model: Model, config: Config, context: StepContext) -> Notes:
    """Cut the blocks out, in place."""
    depth = len(model.blocks())
    if isinstance(config.keep, int) and config.choose == "influence":
        influence = measure_influence(model, config, context)
        kept = sorted(sorted(range(depth), key=lambda index: -influence[index])[: config.keep])
    else:
        kept = chosen(config, depth)
    anatomy.keep_blocks(model.module, kept)
    return {"kept": ", ".join(map(str, kept)), "dropped": depth - len(kept)}


def foresee(table: Weights, config: Config) -> Weights:
    """Drop the blocks' tensors from the table."""
    kept = set(chosen(config, table.blocks()))
    indices = {tensor.name: anatomy.block_index(table.model_type, tensor.name) for tensor in table.tensors}
    return table.changed(t for t in table.tensors if indices[t.name] is None or indices[t.name] in kept)


def claim(folder: Path, config: Config) -> str | None:
    """Count the blocks of the saved checkpoint."""
    promised = config.keep if isinstance(config.keep, int) else len(config.keep)
    found = weights.read(folder).blocks()
    return None if found <= promised else f"the checkpoint has {found} blocks, {promised} were to stay"


def chosen(config: Config, depth: int) -> list[int]:
    """Choose the blocks to keep; for `influence`, which is measured later, a stand-in of the same number."""
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

    from compressit import data

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
    assert context.calibration is not None, "the plan refuses `influence` without calibration data"
    try:
        with torch.no_grad():
            for _, batch in data.batches(context.calibration, model, config.batch_size, context.max_length):
                mask = batch.get("attention_mask")
                real = mask.bool().to(context.device) if mask is not None else None
                model.module(**{key: value.to(context.device) for key, value in batch.items() if key != "labels"})
    finally:
        for hook in hooks:
            hook.remove()
    return [float(share) for share in 1 - sums / seen]
