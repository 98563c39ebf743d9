"""What answers are worth that choose a class: rows of logits, one for each answer of each example, (N, C).

An example has one, or many: a language model's next tokens, the tags of words, where a span starts and ends.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from compressit import tasks
from compressit.algorithms import imitation
from compressit.data.labels import UNLABELLED
from compressit.errors import StepError
from compressit.model import Model

if TYPE_CHECKING:
    import torch


def scored(task: str, said: torch.Tensor, labels: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Give a row of logits and a label for each answer, in the order of examples: (N, C), (N,)."""
    pick = getattr(tasks.load(task), "scored", None)
    rows: tuple[torch.Tensor, torch.Tensor] = pick(said, labels) if pick else (said, labels)
    return rows


def loss(task: str, said: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
    """Cross-entropy with the true labels, averaged over answers; those without one are passed over."""
    from torch.nn import functional

    logits, targets = scored(task, said, labels)
    if bool((targets == UNLABELLED).all()):
        return logits.sum() * 0
    return functional.cross_entropy(logits.float(), targets, ignore_index=UNLABELLED)


def summed(task: str, said: torch.Tensor, labels: torch.Tensor, draw: torch.Generator | None) -> torch.Tensor:
    """Sum the cross-entropy over answers, with the labels or, given what draws, with labels by the model's own odds."""
    import torch
    from torch.nn import functional

    logits, targets = scored(task, said, labels)
    if draw is not None:
        odds = logits.detach().float().softmax(-1).cpu()
        targets = torch.multinomial(odds, 1, generator=draw)[:, 0].to(logits.device)
    return functional.cross_entropy(logits.float(), targets, ignore_index=UNLABELLED, reduction="sum")


def levelled(answers: torch.Tensor) -> torch.Tensor:
    """Take off logits what changes no probability: their mean."""
    return answers - answers.mean(-1, keepdim=True)


def apart(task: str, whole: torch.Tensor, less: torch.Tensor, labels: torch.Tensor) -> float:
    """Sum over examples how far answers moved: KL(whole || less), the mean over each example's answers.

    A row at a time, for logits may be many; in float64, for what is small is a difference of what is not.
    """
    total = 0.0
    for row in range(len(labels)):
        own = slice(row, row + 1)
        before, after = (scored(task, each[own], labels[own])[0].double().log_softmax(-1) for each in (whole, less))
        found = (before.exp() * (before - after)).sum(-1)
        total += float(found.mean()) if len(found) else 0.0
    return total


def imitated(answers: torch.Tensor, taught: torch.Tensor, temperature: float) -> torch.Tensor:
    """Compare with a teacher's answers; those that are NaN are passed over."""
    known = ~taught.isnan().any(-1)
    if not bool(known.any()):
        return answers.sum() * 0
    return imitation.divergence(answers[known], taught[known], temperature)


def together(teachers: Sequence[torch.Tensor], temperature: float) -> torch.Tensor:
    """Make several teachers' answers one."""
    return imitation.together(teachers, temperature)


def order(teacher: Model, student: Model) -> list[int]:
    """Give the places that a teacher has for the student's labels.

    Raises:
        StepError: it has others.
    """
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


def alike(found: Sequence[torch.Tensor], wanted: Sequence[torch.Tensor]) -> dict[str, float]:
    """Say how near answers are to others, batch by batch: how often both choose the same class, or place."""
    import torch

    ours, theirs = (torch.cat([answers.argmax(-1) for answers in each]) for each in (found, wanted))
    return {"agreement": float((ours == theirs).float().mean())}
