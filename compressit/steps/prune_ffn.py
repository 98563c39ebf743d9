"""Cut neurons out of the feed-forward networks, for good: matrices get smaller, and so do time and memory.

Which ones go: those whose loss changes the model's loss least, in all blocks together, as derivatives by a mask over
the neurons tell (Kwon et al. 2022, arXiv:2204.09656). With several rounds importance is measured anew in between, which
is worth most where much is cut. config.json follows where it can say the sizes; where blocks come to differ in them,
`compressit.load` opens the checkpoint, and an export, which models that write text have none of, opens anywhere.

In a mixture of experts each expert loses its own neurons, and all of a block as many: their matrices lie in one tensor.
Experts that saw fewer than 32 calibration tokens lose those of least magnitude and are not refitted, and the run says
so. A shared expert is a network of its own, and so are blocks without experts.

Recipe::

    - step: prune_ffn
      sparsity: 0.5
"""

from __future__ import annotations

from collections import Counter
from typing import Any, ClassVar

from pydantic import Field

from compressit import anatomy
from compressit.errors import RecipeError
from compressit.model import Model
from compressit.steps import Notes, StepContext, Unsaid
from compressit.steps._cutting import BlockConfig, Found, by_number, cut
from compressit.steps._cutting import foresee as foreseen
from compressit.steps._importance import Units
from compressit.weights import Weights


class Config(BlockConfig):
    """Fields of the step."""

    cuts_inputs: ClassVar[bool] = True

    multiple: int = Field(8, ge=1)
    """Leave a multiple of so many neurons in each block: processors are faster at round numbers."""

    @property
    def unit(self) -> int:
        """How many neurons stay or go together."""
        return self.multiple

    def unsaid(self, end: Weights | None) -> Unsaid | None:
        """Name numbers of neurons that differ, or that config.json doesn't hold."""
        if end is not None and end.blocks() and not anatomy.neurons_said(end.model_type):
            return Unsaid(f"config.json of a {end.model_type} may not say how many neurons are left")
        if self.uneven() and (end is None or len(located(end).counts) > 1):
            return Unsaid("blocks may come to differ in how many neurons they have", instead="uniform: true")
        return None


def run(model: Model, config: Config, context: StepContext) -> Notes:
    """Cut neurons out, in place."""
    check(config.step, config.multiple, anatomy.met(model.module.config.to_dict()))
    return cut(model, config, context, units, by_number(config))


def foresee(before: Weights, config: Config) -> Weights:
    """Shrink the feed-forward networks in the table."""
    check(config.step, config.multiple, before.met)
    return foreseen(before, config, located(before))


def check(step: str, multiple: int, met: int | None) -> None:
    """Raise RecipeError for a number of neurons that experts can't have; `met` is how many of them a token meets."""
    if met and multiple % anatomy.ALIGNED:
        raise RecipeError(
            f"{step}: multiple: {multiple}: experts are multiplied in groups, whose rows fill 16 bytes each",
            hint=f"choose a multiple of {anatomy.ALIGNED}",
        )


def located(before: Weights) -> Found:
    """Find the neurons in the table; those of a block's experts are counted in one of them."""
    model_type = before.model_type
    inputs = 0 if anatomy.is_transposed(model_type) else 1

    def place(name: str) -> tuple[str, int] | None:
        block, axis = anatomy.block_name(model_type, name), anatomy.neuron_axis(model_type, name)
        if block is None or axis is None:
            return None
        return f"{block} experts" if anatomy.is_expert(model_type, name) else block, axis

    held = [(tensor, place(tensor.name)) for tensor in before.tensors if len(tensor.shape) == 2]
    # The matrix that leads back has the neurons as its inputs.
    back = [(where[0], tensor.shape[inputs]) for tensor, where in held if where and where[1] == inputs]
    return Found(dict(back), place, Counter(where for where, _ in back))


def units(module: Any) -> list[Units]:
    """Find the neurons of a module."""
    found = []
    for name, _ in anatomy.blocks(module):
        # One that is not described is asked for, to say so.
        for kind in anatomy.networks(module, name) or ("ffn",):
            named = anatomy.experts(module, name) if kind == "experts" else (anatomy.down(module, name),)
            also = tuple((name, other) for other in named[1:])
            count = anatomy.neurons(module, name, kind)
            found.append(Units(name, kind, named[0], count, 1, also, own=kind == "experts"))
    return found
