"""Hold a written file against the checkpoint's own logits, on real examples and on the runtime that will serve it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from compressit import runtimes, tasks
from compressit.errors import StepError
from compressit.steps import Notes

if TYPE_CHECKING:
    import numpy as np
    import torch
    from numpy.typing import NDArray

TOLERANCE = 1e-3
"""Largest difference from the checkpoint's logits, as a share of how far those spread between examples."""


@dataclass(frozen=True)
class Reference:
    """What the checkpoint says of the examples.

    Attributes:
        inputs: Collated batches, without labels.
        said: (rows, classes), all batches' logits one below the other.
    """

    task: str
    inputs: Sequence[Mapping[str, torch.Tensor]]
    said: NDArray[np.float32]

    @classmethod
    def of(cls, module: Any, task: str, examples: Sequence[Mapping[str, torch.Tensor]]) -> Reference:
        """Run the module, which is in float32 on the CPU, over the examples."""
        import torch

        inputs = [unlabelled(batch) for batch in examples]
        with torch.inference_mode():
            said = [tasks.answer(task, module(**batch), torch.stack).numpy() for batch in inputs]
        return cls(task, inputs, _rows(said))

    def check(self, folder: Path, config: Any) -> Notes:
        """Compare a float32 file with the checkpoint, by the spread of logits between examples.

        Raises:
            StepError: it computes something else.
        """
        notes = self.compare(folder, config)
        spread = float(self.said.std(0).mean()) or 1.0
        if float(notes["max_difference"]) > TOLERANCE * max(spread, 1e-3):
            raise StepError(
                f"{config.export}: the file's logits differ from the checkpoint's by up to "
                f"{notes['max_difference']:.2g}, where logits spread by {spread:.2g} between examples",
                hint="the exporter mistranslates this architecture; leave the export out and report it",
            )
        return notes

    def compare(self, folder: Path, config: Any) -> Notes:
        """Note how far a file's logits lie from the checkpoint's, and how often both choose the same class.

        Raises:
            StepError: some are not finite.
        """
        import numpy as np

        session = runtimes.load(config.runtime).open(folder, self.task, "cpu")
        found = _rows([session({name: value.numpy() for name, value in batch.items()}) for batch in self.inputs])
        if not np.isfinite(found).all():
            raise StepError(f"{config.export}: the file's logits are not finite")
        return {
            "max_difference": float(np.abs(found - self.said).max()),
            "agreement": float((found.argmax(-1) == self.said.argmax(-1)).mean()),
        }


def unlabelled(batch: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """Give a batch's inputs, on the CPU."""
    return {name: value.cpu() for name, value in batch.items() if name != "labels"}


def _rows(said: Sequence[NDArray[np.float32]]) -> NDArray[np.float32]:
    import numpy as np

    return np.concatenate([each.reshape(-1, each.shape[-1]) for each in said])
