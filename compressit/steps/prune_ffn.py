"""Cut neurons out of the feed-forward networks, for good: matrices get smaller, and so do time and memory.

Which ones go: those whose loss changes the model's loss least, in all blocks together, as derivatives by a mask over
the neurons tell (Kwon et al. 2022, arXiv:2204.09656). With several rounds importance is measured anew in between, which
is worth most where much is cut. config.json follows where it can say the sizes; where blocks come to differ in them,
`compressit.load` opens the checkpoint, and an export opens anywhere.

Recipe::

    - step: prune_ffn
      sparsity: 0.5
"""

from __future__ import annotations

from typing import Any

from pydantic import Field

from compressit import anatomy
from compressit.model import Model
from compressit.steps import Notes, StepContext
from compressit.steps._cutting import BlockConfig, Found, by_number, cut
from compressit.steps._cutting import foresee as foreseen
from compressit.steps._importance import Units
from compressit.weights import Weights


class Config(BlockConfig):
    """Fields of the step."""

    multiple: int = Field(8, ge=1)
    """Leave a multiple of so many neurons in each block: processors are faster at round numbers."""

    @property
    def unit(self) -> int:
        """How many neurons stay or go together."""
        return self.multiple


def run(model: Model, config: Config, context: StepContext) -> Notes:
    """Cut neurons out, in place."""
    return cut(model, config, context, units, by_number(config))


def foresee(before: Weights, config: Config) -> Weights:
    """Shrink the feed-forward networks in the table."""
    return foreseen(before, config, located(before))


def located(before: Weights) -> Found:
    """Find the neurons in the table."""
    model_type = before.model_type
    inputs = 0 if anatomy.is_transposed(model_type) else 1

    def place(name: str) -> tuple[str, int] | None:
        block, axis = anatomy.block_name(model_type, name), anatomy.neuron_axis(model_type, name)
        return None if block is None or axis is None else (block, axis)

    held = {tensor: place(tensor.name) for tensor in before.tensors if len(tensor.shape) == 2}
    # The matrix that leads back has the neurons as its inputs.
    counts = {where[0]: tensor.shape[inputs] for tensor, where in held.items() if where and where[1] == inputs}
    return Found(counts, place, dict.fromkeys(counts, 1))


def units(module: Any) -> list[Units]:
    """Find the neurons of a module."""
    return [
        Units(name, "ffn", anatomy.down(module, name), anatomy.neurons(module, name), 1)
        for name, _ in anatomy.blocks(module)
    ]
