"""Hold a written file against the checkpoint's own logits, on real examples and on the runtime that will serve it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from compressit import runtimes, tasks
from compressit.errors import StepError
from compressit.steps import Notes
from compressit.steps import _answers as answers

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
        labels: Theirs, which say which of the logits count.
        said: (answers, classes), all batches' logits one below the other; of answers that are places, (places, 1).
        chosen: (answers,), the likeliest class or place of each.
    """

    task: str
    inputs: Sequence[Mapping[str, torch.Tensor]]
    labels: Sequence[torch.Tensor]
    said: NDArray[np.float32]
    chosen: NDArray[np.int64]

    @classmethod
    def of(cls, module: Any, task: str, examples: Sequence[Mapping[str, torch.Tensor]]) -> Reference:
        """Run the module, which is in float32 on the CPU, over the examples."""
        import torch

        inputs = [unlabelled(batch) for batch in examples]
        with torch.inference_mode():
            said = [answers.said(task, module, batch) for batch in inputs]
        labels = [batch["labels"].cpu() for batch in examples]
        return cls(task, inputs, labels, *_rows(task, said, labels))

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
        import torch

        session = runtimes.load(config.runtime).open(folder, self.task, "cpu")
        said = [session({name: value.numpy() for name, value in batch.items()}) for batch in self.inputs]
        found, chosen = _rows(self.task, map(torch.from_numpy, said), self.labels)
        if not np.isfinite(found).all():
            raise StepError(f"{config.export}: the file's logits are not finite")
        return {
            "max_difference": float(np.abs(found - self.said).max()),
            "agreement": float((chosen == self.chosen).mean()),
        }


def unlabelled(batch: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """Give a batch's inputs, on the CPU."""
    return {name: value.cpu() for name, value in batch.items() if name != "labels"}


def _rows(
    task: str, said: Iterable[torch.Tensor], labels: Sequence[torch.Tensor]
) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
    """Pick the answers that count, what is said of padding is nobody's; give their logits and the likeliest of each."""
    import torch

    picked = [answers.scored(task, each, own)[0] for each, own in zip(said, labels, strict=True)]
    chosen = torch.cat([each.argmax(-1) for each in picked]).numpy()
    if tasks.places(task):
        # Texts have unlike numbers of places.
        picked = [each[each > tasks.OUT_OF_REACH][:, None] for each in picked]
    return torch.cat(picked).numpy(), chosen
