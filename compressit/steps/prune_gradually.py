"""Zero weights little by little while the model learns, from a teacher or by labels alone.

From `begin` to `end` of the updates the share of zeros grows as s_f + (s_i - s_f) * (1 - t)^3, from what is zero
already to `sparsity` (Zhu & Gupta 2017, arXiv:1710.01878), or what the `pattern` has no room for goes, lowest first;
then the rest is trained with its zeros held. Which weights go is told anew at each `every` updates: a weight that is
out keeps its value aside and may come back, one that an earlier step has zeroed may not.

* `magnitude`: the smallest go;
* `movement`: those that move towards zero go, whatever their size: the lowest sums of -w * dL/dw over the updates so
  far, where a weight that is out counts by the value that it had (Sanh et al. 2020, arXiv:2005.07683).

As many updates of distillation each, 668 of a small BERT on paragraphs of documentation: with 90% zeros accuracy is
0.883 by `prune_magnitude` ahead of `distill` and 0.882 by `magnitude` here, with 95% 0.876 and 0.875; after 167
updates, or 217 of a MiniLM on SST-2, `magnitude` is no better either. `movement` ends at or near chance with
90% (`tests/benchmarks/bench_gradual.py`): what a model that has learned its task moves towards zero at first is not
what it can do without. The paper starts from models new to their task, and trains longer.

All else is as in `distill`; `control: true` learns by the labels alone. Zeros alone make nothing smaller or faster on
most runtimes; the report's `nonzero` shows them.

Recipe::

    - step: prune_gradually
      sparsity: 0.8
      epochs: 3
      learning_rate: 5e-5
"""

from __future__ import annotations

import contextlib
import math
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Literal, Self

from pydantic import Field, model_validator

from compressit.algorithms import masks
from compressit.errors import StepError
from compressit.model import Model
from compressit.model.matrices import Matrix
from compressit.steps import Notes, StepContext, _pruning, _sharding, distill
from compressit.steps._pruning import ZeroingConfig, foresee

if TYPE_CHECKING:
    import torch

__all__ = ["Config", "claim", "foresee", "remains", "run"]

HUNG = "compressit_pruned"
"""Where masks, what was masked and scores hang on the model meanwhile, so that the trainer keeps them with it."""


class Config(ZeroingConfig, distill.LearningConfig):
    """Fields of the step."""

    effort: ClassVar[str | None] = "epochs"

    criterion: Literal["magnitude", "movement"] = "magnitude"
    """What tells which weights go."""
    scope: Literal["layer", "global"] = "layer"
    """Whether each layer loses the same share, or all layers together lose it, some more than others."""
    begin: float = Field(0.0, ge=0, lt=1)
    """Share of the updates after which weights begin to go."""
    end: float = Field(0.7, gt=0, le=1)
    """Share of the updates after which all have gone that are to."""
    every: int = Field(10, ge=1)
    """Updates from one choice of the weights to the next."""

    @model_validator(mode="after")
    def _fits(self) -> Self:
        if self.pattern is not None and self.scope == "global":
            raise ValueError("a pattern holds in every layer: scope: global goes with sparsity")
        if self.begin >= self.end:
            raise ValueError(f"begin: {self.begin} must lie before end: {self.end}")
        return self


def run(model: Model, config: Config, context: StepContext) -> Notes:
    """Train in place while zeros grow."""
    if context.processes > 1 and _sharding.asked():
        raise StepError("prune_gradually looks at whole matrices, which FSDP spreads", hint=_sharding.HINT)
    chosen = model.matrices(config.include, config.exclude)
    with _hung(model.module, chosen) as held:
        notes = distill.learn(model, config, context, [_pruner(model.module, chosen, held, config)])
    state = model.module.state_dict()
    zeros = sum(int((matrix.of(state) == 0).sum()) for matrix in chosen.values())
    total = sum(matrix.of(state).numel() for matrix in chosen.values())
    return {**notes, "layers": len(chosen), "sparsity": round(zeros / total, 4)}


def claim(folder: Path, config: Config) -> str | None:
    """Count the zeros of the layers in the saved files."""
    return _pruning.claim(folder, config, overall=config.scope == "global")


def remains(stages: Sequence[Path], config: Config) -> str | None:
    """Find the zeros again in what later steps have left of the layers."""
    return _pruning.remains(stages, config, overall=config.scope == "global")


@contextlib.contextmanager
def _hung(module: Any, chosen: Mapping[str, Matrix]) -> Iterator[list[Any]]:
    """Hang on a module, for each matrix, a mask of what is out, the values that are, and the scores of all."""
    import torch
    from torch import nn

    state, made = module.state_dict(), nn.ModuleList()
    for matrix in chosen.values():
        weight_OI, own = matrix.of(state), nn.Module()
        own.register_buffer("out_OI", torch.zeros_like(weight_OI, dtype=torch.bool).contiguous())
        for name in ("value_OI", "score_OI"):
            own.register_buffer(name, torch.zeros_like(weight_OI, dtype=torch.float32).contiguous())
        made.append(own)
    module.add_module(HUNG, made)
    try:
        yield [*made]
    finally:
        delattr(module, HUNG)


def _pruner(module: Any, chosen: Mapping[str, Matrix], held: list[Any], config: Config) -> Any:
    from transformers import TrainerCallback

    named = dict(module.named_parameters())
    pairs = list(zip(chosen.values(), held, strict=True))
    first = _shares([matrix.of(named).detach() == 0 for matrix in chosen.values()], config)

    class Pruner(TrainerCallback):  # type: ignore[misc]
        def on_pre_optimizer_step(self, *unused: Any, **kwargs: Any) -> None:
            for matrix, own in pairs:
                if (grad := named[matrix.parameter].grad) is not None:
                    _feel(matrix.of(named).detach(), matrix.of({matrix.parameter: grad}), own, config)

        def on_step_end(self, args: Any, state: Any, control: Any, **unused: Any) -> None:
            done, last = state.global_step, math.ceil(config.end * state.max_steps)
            begun = config.begin * state.max_steps
            weights = [(matrix.of(named).detach(), own) for matrix, own in pairs]
            if begun < done <= last and (done == last or done % config.every == 0):
                _choose(weights, first, (done - begun) / (last - begun), config)
            for weight_OI, own in weights:
                weight_OI.masked_fill_(own.out_OI, 0)

    return Pruner()


def _feel(weight_OI: torch.Tensor, grad_OI: torch.Tensor, own: Any, config: Config) -> None:
    """Take in how a matrix would move; what is out does not."""
    if config.criterion == "movement":
        moved_OI = own.value_OI.where(own.out_OI, weight_OI).mul_(grad_OI)
        # Arithmetic of 16 bits may overflow now and then; the trainer passes over such an update.
        own.score_OI.sub_(moved_OI.nan_to_num_(0, 0, 0))
    grad_OI.masked_fill_(own.out_OI, 0)


def _choose(pairs: list[tuple[torch.Tensor, Any]], first: list[float], progress: float, config: Config) -> None:
    """Tell anew which weights are out, and bring back those that no longer are."""
    import torch

    scores = []
    for weight_OI, own in pairs:
        own.value_OI.copy_(own.value_OI.where(own.out_OI, weight_OI))
        score_OI = own.value_OI.abs() if config.criterion == "magnitude" else own.score_OI
        # What an earlier step has zeroed goes first.
        scores.append(score_OI.masked_fill(own.value_OI == 0, -torch.inf))
    for (weight_OI, own), out_OI in zip(pairs, _out(scores, first, progress, config), strict=True):
        own.out_OI.copy_(out_OI)
        weight_OI.copy_(own.value_OI)


def _out(scores: list[torch.Tensor], first: list[float], progress: float, config: Config) -> list[torch.Tensor]:
    if config.pattern is not None:
        n, m = config.kept
        shares = [masks.cubic(before, 1 - n / m, progress) for before in first]
        return [masks.towards_n_of_m(score, n, m, share) for score, share in zip(scores, shares, strict=True)]
    assert config.sparsity is not None, "there is one amount"
    shares = [masks.cubic(before, max(before, config.sparsity), progress) for before in first]
    if config.scope == "global":
        return masks.smallest(scores, shares[0])
    return [masks.smallest([score], share)[0] for score, share in zip(scores, shares, strict=True)]


def _shares(zeros: list[torch.Tensor], config: Config) -> list[float]:
    """Say which share of each matrix is zero, or of all of them together."""
    if config.scope == "global":
        return [sum(int(zero.sum()) for zero in zeros) / sum(zero.numel() for zero in zeros)]
    return [float(zero.float().mean()) for zero in zeros]
