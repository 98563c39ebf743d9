"""Train on what a teacher says of each example or next token, and on the labels.

The loss is alpha * CE(student, label) + (1 - alpha) * T^2 * KL(teacher / T || student / T), averaged over examples, or
over tokens for a language model (Hinton et al. 2015, arXiv:1503.02531). The teacher is the model as the recipe found
it, or any other of the same labels or vocabulary. Its logits are computed once for each example, with its own tokenizer
or image processor; those of a language model batch by batch, since a vocabulary has too many to keep.

Recipe::

    - step: distill
      epochs: 2
      temperature: 2.0
      alpha: 0.5
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from pydantic import Field

from compressit import data, tasks
from compressit.errors import StepError
from compressit.model import Model
from compressit.spec import Location
from compressit.steps import Need, Notes, StepContext
from compressit.steps._training import TrainingConfig, cross_entropy, train

if TYPE_CHECKING:
    import torch


class Config(TrainingConfig):
    """Fields of the step."""

    teacher: Location | None = None
    """Hub id, folder or demo:NAME of the teacher (default: the model as the recipe found it)."""
    temperature: float = Field(2.0, gt=0, le=1000)
    """T: how much the probabilities of both are softened."""
    alpha: float = Field(0.5, ge=0, le=1)
    """Weight of the true labels; the teacher's has the rest."""

    def needs(self) -> frozenset[Need]:
        """Ask for a training split and a teacher."""
        return frozenset({Need.TRAINING, Need.TEACHER})


def run(model: Model, config: Config, context: StepContext) -> Notes:
    """Train in place."""
    teacher = context.teacher(config.teacher)
    # A vocabulary has too many logits to keep; its teacher answers batch by batch.
    live = hasattr(tasks.load(model.task), "scored")
    taught = same_tokens(teacher, model) if live else teach(teacher, model, context)

    def loss(student: torch.Tensor, labels: torch.Tensor, said: torch.Tensor | None) -> torch.Tensor:
        assert said is not None
        soft = divergence(student, said, config.temperature)
        return config.alpha * cross_entropy(student, labels, None) + (1 - config.alpha) * soft

    return {**train(model, config, context, loss, taught), "teacher": config.teacher or "the original"}


def divergence(student: torch.Tensor, teacher: torch.Tensor, temperature: float) -> torch.Tensor:
    """T^2 * KL(teacher / T || student / T), averaged over examples: logits (B, C), (B, C) -> scalar."""
    from torch.nn import functional

    return temperature**2 * functional.kl_div(
        functional.log_softmax(student.float() / temperature, dim=-1),
        functional.log_softmax(teacher.float() / temperature, dim=-1),
        log_target=True,
        reduction="batchmean",
    )


def teach(teacher: Model, student: Model, context: StepContext, batch_size: int = 32) -> torch.Tensor:
    """Compute the teacher's logits for each training row, in the student's order of labels: (rows, classes)."""
    import torch

    assert context.train is not None, "the plan refuses training without a training split"
    order = _order(teacher, student)
    classes = len(student.module.config.id2label)
    found = torch.empty(len(context.train), classes)
    with context.progress.bar("teacher", len(context.train)) as advance, torch.inference_mode():
        for places, batch in data.batches(context.train, teacher, batch_size, context.max_length):
            inputs = {name: value.to(context.device) for name, value in batch.items() if name != "labels"}
            found[places] = teacher.module(**inputs).logits.float().cpu()[:, order]
            advance(len(batch["labels"]))
    return found


def same_tokens(teacher: Model, student: Model) -> Model:
    """Give the teacher back if it reads the same tokens, so that it can judge what the student reads."""
    wide, own = teacher.module.config.get_text_config().vocab_size, student.module.config.get_text_config().vocab_size
    if teacher.processor.get_vocab() != student.processor.get_vocab() or wide != own:
        raise StepError(
            f"the teacher {teacher.source} has another vocabulary than the model",
            hint="a language model learns from a teacher of its own family",
        )
    return teacher


def _order(teacher: Model, student: Model) -> list[int]:
    taught, own = teacher.module.config.id2label, student.module.config.id2label
    ids = {label.lower(): index for index, label in taught.items()}
    if taught == own:
        return list(own)
    if ids.keys() != {label.lower() for label in own.values()}:
        raise StepError(
            f"the teacher {teacher.source} has other labels than the model\n"
            f"  teacher: {', '.join(taught.values())}\n  model:   {', '.join(own.values())}"
        )
    return [ids[own[index].lower()] for index in own]
