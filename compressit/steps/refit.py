"""Let the weights that are left make up for those that are zero, or scales and norms for what was rounded.

After `prune_magnitude` or `prune_wanda`: which weights are zero stays, and all others move at once to where each layer
gives most nearly what the original's weights would give of what it is given now, by least squares on calibration data
(`prune_sparsegpt` does so by itself). That brings more back than a cleverer choice of what goes (Boza 2024,
arXiv:2401.02938).

After a step that rounds weights: integers stay, and the scales, norms and biases of each block learn to give what the
original's block gives of the same input, in some passes over the calibration data (as OmniQuant learns its ranges, Shao
et al. 2024, arXiv:2308.13137, and Norm Tweaking its norms, Li et al. 2023, arXiv:2309.02784). It is for 2 and 3 bits:
at 4 there is little to bring back (`tests/benchmarks/bench_steps_lm.py`). Where inputs are rounded too, it can't see
through them and refuses.

Blocks and layers that aren't of the original's shape any more stay as they are. The original is the model as the recipe
found it, so that nothing may train or rotate it in between.

Recipe::

    - step: refit
      damping: 0.01
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import TYPE_CHECKING, ClassVar

from pydantic import Field

from compressit.algorithms import hessian
from compressit.algorithms.refit import refit_around_zeros
from compressit.data.walking import Block, Group
from compressit.data.walking.statistics import Gram
from compressit.errors import StepError
from compressit.model import Model
from compressit.steps import Fact, Need, Notes, StepContext
from compressit.steps._reconstructing import reconstruct
from compressit.steps._walking import WalkingConfig, each_group, each_whole

if TYPE_CHECKING:
    import torch

FEW = 0.1
"""Tokens for each input below which a Hessian says too little."""


class Config(WalkingConfig):
    """Fields of the step."""

    keeps: ClassVar[frozenset[Fact]] = frozenset(
        {Fact.SHAPES, Fact.SPARSITY, Fact.DTYPE, Fact.FACTORS, Fact.QUANTIZATION}
    )

    looks_back: ClassVar[bool] = True

    rounds: int = Field(20, ge=1, le=1000)
    """Rounds of conjugate gradients, around zeros."""
    damping: float = Field(0.01, gt=0, le=1)
    """Share of the Hessian's mean diagonal that is added to it, around zeros."""
    epochs: int = Field(3, ge=1, le=100)
    """Passes over the calibration data, after rounding."""
    learning_rate: float = Field(5e-3, gt=0, lt=1)
    """How far the first update moves a scale, as a share of it, and an element of a norm or a bias; it falls to 0."""
    include: tuple[str, ...] = ()
    """Glob patterns of layers to refit (default: every linear layer inside the blocks that holds zeros, or
    was rounded)."""
    exclude: tuple[str, ...] = ()
    """Glob patterns of layers to leave alone."""

    def idle_behind(self, made: frozenset[Fact]) -> Mapping[str, str]:
        """Name what is about the other one of the two ways to refit."""
        if Fact.QUANTIZATION in made:
            return dict.fromkeys(
                ("rounds", "damping", "precision", "sequential", "special_tokens"), "zeros to fit around"
            )
        return dict.fromkeys(("epochs", "learning_rate"), "a step before it that rounds")

    def needs(self) -> frozenset[Need]:
        """Ask for calibration data, and for the weights as they were."""
        return super().needs() | {Need.TEACHER}


def run(model: Model, config: Config, context: StepContext) -> Notes:
    """Refit block by block."""
    if model.quantized:
        return _after_rounding(model, config, context)
    whole = _originals(model, context.teacher(None))
    state = model.module.state_dict(keep_vars=True)
    chosen = {
        name: matrix
        for name, matrix in model.matrices(config.include, config.exclude).items()
        if name in whole and whole[name].shape == matrix.of(state).shape and bool((matrix.of(state) == 0).any())
    }
    if not chosen:
        raise StepError("no layer holds zeros and has the original's shape", hint="put refit after a step that prunes")
    starved = 0

    def change(block: Block, group: Group) -> None:
        nonlocal starved
        for matrix in group.matrices:
            pruned_OI = block.weight(matrix)
            if group.statistic.count < FEW * pruned_OI.shape[1]:
                starved += 1
                continue
            whole_OI = whole[matrix.name].to(pruned_OI)
            damped_II = hessian.damped(group.statistic.hessian(), config.damping)
            block.put(matrix, refit_around_zeros(pruned_OI, whole_OI, damped_II, config.rounds))

    each_group(model, chosen, config, context, Gram, change)
    return {"layers": len(chosen) - starved, **({"starved": starved} if starved else {})}


def _after_rounding(model: Model, config: Config, context: StepContext) -> Notes:
    whole = _whole_blocks(model, context.teacher(None))
    chosen = {
        name: matrix
        for name, matrix in model.matrices(config.include, config.exclude).items()
        if name in model.quantized and any(name.startswith(f"{block}.") for block in whole)
    }
    for name in chosen:
        scheme = model.quantized[name].scheme
        if scheme.activations or scheme.rows or scheme.number not in ("int", "fp8"):
            what = "the inputs are rounded too" if scheme.activations else f"scales of {scheme.number} are rounded too"
            raise StepError(f"{name} can't be refitted: {what}", hint="leave refit out, or name other layers: include")
    if not chosen:
        raise StepError(
            "no layer was rounded that lies in a block of the original's shape",
            hint="put refit after a step that rounds",
        )
    errors: list[tuple[float, float]] = []
    for block in each_whole(model, chosen, config, context):
        own = [matrix for matrix in chosen.values() if matrix.name.startswith(f"{block.part.name}.")]
        tensors = {name: each.to(block.within()[name]) for name, each in whole[block.part.name].items()}
        errors.append(reconstruct(block, own, tensors, config.epochs, config.learning_rate, context.processes))
    notes: dict[str, float | int | str | bool] = {"layers": len(chosen)}
    # A run that went on knows nothing of what the killed one had done.
    if errors:
        before, after = (sum(each) / len(errors) for each in zip(*errors, strict=True))
        notes |= {"error_before": float(f"{before:.3g}"), "error_after": float(f"{after:.3g}")}
    return notes


def _whole_blocks(model: Model, original: Model) -> dict[str, dict[str, torch.Tensor]]:
    """Give the original's tensors of each block that is of its shape still, by their names within the block."""
    state, own = original.module.state_dict(), model.module.state_dict()
    held = {name: matrix.of(state) for name, matrix in original.matrices(("*",)).items()}
    found = {}
    for name, origin in _blocks(model, held, original).items():
        before, now = _within(state, origin), _within(own, name)
        if {key: each.shape for key, each in before.items()} == {key: each.shape for key, each in now.items()}:
            found[name] = before
    return found


def _within(state: Mapping[str, torch.Tensor], block: str) -> dict[str, torch.Tensor]:
    return {name.removeprefix(f"{block}."): each for name, each in state.items() if name.startswith(f"{block}.")}


def _originals(model: Model, original: Model) -> dict[str, torch.Tensor]:
    """Find the original's matrix of each of the model's, by the name that the model has for it."""
    state = original.module.state_dict(keep_vars=True)
    held = {name: matrix.of(state).detach() for name, matrix in original.matrices(("*",)).items()}
    found = dict(held)
    for name, origin in _blocks(model, held, original).items():
        inside = {key: weight for key, weight in held.items() if key.startswith(f"{origin}.")}
        found |= {f"{name}{key.removeprefix(origin)}": weight for key, weight in inside.items()}
    return found


def _blocks(model: Model, held: Mapping[str, torch.Tensor], original: Model) -> dict[str, str]:
    """Tell which block of the original each block of the model was: of those that come later, the most alike."""
    names, origins = ([name for name, _ in each.blocks()] for each in (model, original))
    if len(names) == len(origins):
        return dict(zip(names, origins, strict=True))
    state = model.module.state_dict(keep_vars=True)
    matrices = model.matrices()
    found: dict[str, str] = {}
    first = 0
    for place, name in enumerate(names):
        own = [
            (key.removeprefix(name), matrix.of(state).detach())
            for key, matrix in matrices.items()
            if key.startswith(f"{name}.")
        ]
        last = len(origins) - (len(names) - place)

        def apart(origin: str, own: list[tuple[str, torch.Tensor]] = own) -> float:
            pairs = [(weight, held.get(f"{origin}{leaf}")) for leaf, weight in own]
            like = [(a, b) for a, b in pairs if b is not None and a.shape == b.shape]
            return sum(float(((a - b) * (a != 0)).square().sum()) for a, b in like) if like else math.inf

        first = min(range(first, last + 1), key=lambda index: apart(origins[index]))
        found[name] = origins[first]
        first += 1
    return found
