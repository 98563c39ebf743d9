"""Hold a written file against the checkpoint's own logits, on real examples and on the runtime that will serve it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from compressit import runtimes, tasks
from compressit.errors import StepError
from compressit.exports._tracing import plain
from compressit.outputs import OUT_OF_REACH
from compressit.steps import Notes
from compressit.steps._answers import said, worth

if TYPE_CHECKING:
    import torch

    from compressit.model import Model

TOLERANCE = 1e-3
"""Largest difference from the checkpoint's logits, as a share of how far those spread between examples."""


@dataclass(frozen=True)
class Reference:
    """What the checkpoint says of the examples.

    Attributes:
        inputs: Collated batches, without labels.
        labels: Theirs, which say which of the answers count.
        said: By batch, a row for each answer: (answers, classes or channels).
    """

    task: str
    inputs: Sequence[Mapping[str, torch.Tensor]]
    labels: Sequence[torch.Tensor]
    said: Sequence[torch.Tensor]

    @classmethod
    def begin(cls, model: Model, folder: Path, examples: Sequence[Mapping[str, torch.Tensor]]) -> tuple[Any, Reference]:
        """Put config and processor where a file will be; give the module that becomes it, and what it says."""
        module = plain(model.module)
        module.config.save_pretrained(folder)
        model.keep(folder)
        return module, cls.of(model, module, examples)

    @classmethod
    def of(cls, model: Model, module: Any, examples: Sequence[Mapping[str, torch.Tensor]]) -> Reference:
        """Run a model's module, which is in float32 on the CPU, over the examples."""
        import torch

        inputs = [unlabelled(batch) for batch in examples]
        with torch.inference_mode():
            labels = [batch["labels"].cpu() for batch in examples]
            picked = _picked(model.task, (said(model, batch, module) for batch in inputs), labels)
        return cls(model.task, inputs, labels, picked)

    def check(self, folder: Path, config: Any) -> Notes:
        """Compare a float32 file with the checkpoint, by the spread of logits between examples.

        Raises:
            StepError: it computes something else.
        """
        notes = self.compare(folder, config)
        spread = float(_laid_out(self.task, self.said).std(0, correction=0).mean()) or 1.0
        if float(notes["max_difference"]) > TOLERANCE * max(spread, 1e-3):
            raise StepError(
                f"{config.export}: the file's logits differ from the checkpoint's by up to "
                f"{notes['max_difference']:.2g}, where logits spread by {spread:.2g} between examples",
                hint="the exporter mistranslates this architecture; leave the export out and report it",
            )
        return notes

    def compare(self, folder: Path, config: Any) -> Notes:
        """Note how far a file's answers lie from the checkpoint's, and how alike they are.

        Raises:
            StepError: some are not finite.
        """
        import torch

        session = runtimes.load(config.runtime).open(folder, self.task, "cpu")
        answers = (session({name: value.numpy() for name, value in batch.items()}) for batch in self.inputs)
        found = _picked(self.task, map(torch.from_numpy, answers), self.labels)
        if not all(bool(torch.isfinite(each).all()) for each in found):
            raise StepError(f"{config.export}: the file's logits are not finite")
        apart = float((_laid_out(self.task, found) - _laid_out(self.task, self.said)).abs().max())
        return {"max_difference": apart, **worth(self.task).alike(found, self.said)}


def unlabelled(batch: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """Give a batch's inputs, on the CPU."""
    return {name: value.cpu() for name, value in batch.items() if name != "labels"}


def _picked(task: str, said: Iterable[torch.Tensor], labels: Sequence[torch.Tensor]) -> list[torch.Tensor]:
    """Pick the answers that count: what is said of padding is nobody's."""
    return [worth(task).scored(task, each, own)[0] for each, own in zip(said, labels, strict=True)]


def _laid_out(task: str, picked: Sequence[torch.Tensor]) -> torch.Tensor:
    """Lay all batches' answers one below the other; of places, of which texts have unlike numbers, one in a row."""
    import torch

    if tasks.places(task):
        picked = [each[each > OUT_OF_REACH][:, None] for each in picked]
    return torch.cat(list(picked))
