"""What a model answers, and what its answers are worth: by labels, by its own odds, beside a teacher's or its own.

An example has one answer, or many: a language model's next tokens, the tags of words, where a span starts and ends. All
are rows of logits, one for each answer: (N, C).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

from compressit import data, tasks
from compressit.algorithms import imitation
from compressit.data.labels import UNLABELLED
from compressit.errors import StepError
from compressit.model import Model
from compressit.steps import StepContext

if TYPE_CHECKING:
    import torch
    from datasets import Dataset

Objective = Callable[[Any, Mapping[str, "torch.Tensor"], "torch.Tensor", "torch.Tensor | None"], "torch.Tensor"]
"""(module, inputs, labels, what a teacher said of each answer beforehand or None) -> the scalar to minimise."""


def said(task: str, module: Any, inputs: Mapping[str, torch.Tensor]) -> torch.Tensor:
    """Run a model, and give what a task judges it by."""
    import torch

    return tasks.answer(task, module(**inputs), torch.stack)


def scored(task: str, said: torch.Tensor, labels: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Give a row of logits and a label for each answer, in the order of examples: (N, C), (N,)."""
    pick = getattr(tasks.load(task), "scored", None)
    rows: tuple[torch.Tensor, torch.Tensor] = pick(said, labels) if pick else (said, labels)
    return rows


def many(task: str) -> bool:
    """Say whether an example has an answer at each of several positions."""
    return hasattr(tasks.load(task), "scored") and not tasks.places(task)


def live(task: str) -> bool:
    """Say whether a teacher answers batch by batch: there would be too many logits to keep, or they name tokens."""
    paired: bool = tasks.load(task).OUTPUT.PAIRED
    return paired or tasks.places(task)


def by_labels(task: str) -> Objective:
    """Give the objective of a task that labels alone teach."""

    def objective(
        module: Any, inputs: Mapping[str, torch.Tensor], labels: torch.Tensor, taught: torch.Tensor | None
    ) -> torch.Tensor:
        return cross_entropy(*scored(task, said(task, module, inputs), labels))

    return objective


def cross_entropy(logits: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
    """Cross-entropy with the true labels; rows without one are passed over."""
    from torch.nn import functional

    if bool((labels == UNLABELLED).all()):
        return logits.sum() * 0
    return functional.cross_entropy(logits.float(), labels, ignore_index=UNLABELLED)


def soft(logits: torch.Tensor, taught: torch.Tensor, temperature: float) -> torch.Tensor:
    """Compare with a teacher's answers; those that are NaN are passed over."""
    known = ~taught.isnan().any(-1)
    if not bool(known.any()):
        return logits.sum() * 0
    return imitation.divergence(logits[known], taught[known], temperature)


def summed(task: str, said: torch.Tensor, labels: torch.Tensor, draw: torch.Generator | None) -> torch.Tensor:
    """Sum the cross-entropy over answers, with the labels or, given what draws, with labels by the model's own odds."""
    import torch
    from torch.nn import functional

    given, targets = scored(task, said, labels)
    if draw is not None:
        odds = given.detach().float().softmax(-1).cpu()
        targets = torch.multinomial(odds, 1, generator=draw)[:, 0].to(given.device)
    return functional.cross_entropy(given.float(), targets, ignore_index=UNLABELLED, reduction="sum")


def apart(task: str, whole: torch.Tensor, less: torch.Tensor, labels: torch.Tensor) -> float:
    """Sum over examples how far answers moved: KL(whole || less), the mean over each example's answers.

    A row at a time, for logits may be many.
    """
    total = 0.0
    for row in range(len(labels)):
        own = slice(row, row + 1)
        before, after = (scored(task, each[own], labels[own])[0].float().log_softmax(-1) for each in (whole, less))
        found = (before.exp() * (before - after)).sum(-1)
        total += float(found.mean()) if len(found) else 0.0
    return total


def teach(teacher: Model, student: Model, context: StepContext, batch_size: int = 32) -> list[torch.Tensor]:
    """Compute what a teacher says of each of the student's training rows, in the student's order of labels.

    The teacher reads with its own tokenizer or image processor. Where that cuts rows into other windows, each word's
    answer goes to the student's window that holds the word.

    Returns:
        For each prepared row of the student, (answers, classes) in float32.
    """
    import torch

    assert context.train is not None, "the plan refuses training without a training split"
    order = _order(teacher, student)
    task = tasks.load(teacher.task)
    own, other = (task.prepare(context.train, each.processor, context.max_length) for each in (student, teacher))
    collate, answers = task.collate(teacher.processor), {}
    with context.progress.bar("teacher", len(other)) as advance, torch.inference_mode():
        for places, batch in data.batched(other, collate, data.by_length(other), batch_size):
            on = {name: value.to(context.device) for name, value in batch.items()}
            labels = on.pop("labels")
            rows = said(teacher.task, teacher.module, on).float().cpu()
            for row, place in enumerate(places):
                picked, _ = scored(teacher.task, rows[row : row + 1], labels[row : row + 1].cpu())
                answers[place] = picked[:, order]
            advance(len(places))
    return _of_windows(answers, other, own)


def _of_windows(answers: dict[int, torch.Tensor], given: Dataset, wanted: Dataset) -> list[torch.Tensor]:
    """Deal answers out to other windows of the same rows, by word."""
    import torch

    if "words" not in given.column_names:
        return [answers[place] for place in range(len(wanted))]
    of_word = {
        (row, word): answer
        for place, (row, words) in enumerate(zip(given["row"], given["words"], strict=True))
        for word, answer in zip(words, answers[place], strict=True)
    }
    # A word that the teacher's tokenizer makes nothing of teaches nothing.
    none = torch.full_like(next(iter(of_word.values())), torch.nan)
    found = [
        [of_word.get((row, word), none) for word in words]
        for row, words in zip(wanted["row"], wanted["words"], strict=True)
    ]
    return [torch.stack(each) if each else none[:0] for each in found]


def same_tokens(teacher: Model, student: Model) -> None:
    """Refuse a teacher that reads other tokens, where it is to judge what the student reads."""
    if not hasattr(student.processor, "get_vocab"):
        return
    wide, own = teacher.module.config.get_text_config().vocab_size, student.module.config.get_text_config().vocab_size
    if teacher.processor.get_vocab() != student.processor.get_vocab() or wide != own:
        raise StepError(
            f"the teacher {teacher.source} has another vocabulary than the model",
            hint="what it says of tokens, and how it gets there, is learned from a teacher of the same tokenizer",
        )


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
