"""What answers are worth that are vectors of texts, of which directions count: (texts, D).

Where texts come in pairs, the two of a pair follow each other.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from compressit.algorithms import similarity
from compressit.model import Model

if TYPE_CHECKING:
    import torch


def scored(task: str, said: torch.Tensor, labels: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Give the vectors, and the scores of pairs."""
    return said, labels


def loss(task: str, said: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
    """Compare the order of cosines with that of scores, over all pairs of a batch."""
    if len(said) != 2 * len(labels):
        return said.sum() * 0
    return similarity.ranking(similarity.cosines(said[0::2], said[1::2]), labels)


def summed(task: str, said: torch.Tensor, labels: torch.Tensor, draw: torch.Generator | None) -> torch.Tensor:
    """Take the loss for each pair or, given what draws, its slopes for directions seen with Gaussian noise."""
    import torch
    from torch.nn import functional

    if draw is None:
        return loss(task, said, labels) * len(labels)
    noise = torch.randn(said.shape, generator=draw).to(said.device)
    return (functional.normalize(said.float(), dim=-1) * noise).sum()


def levelled(answers: torch.Tensor) -> torch.Tensor:
    """Take off vectors what changes no cosine: their length."""
    from torch.nn import functional

    return functional.normalize(answers, dim=-1)


def apart(task: str, whole: torch.Tensor, less: torch.Tensor, labels: torch.Tensor) -> float:
    """Sum over examples how far vectors turned: 1 - cosine, the mean over an example's texts."""
    from torch.nn import functional

    # In float32, cosines near 1 are a few numbers only.
    before, after = (functional.normalize(each.double(), dim=-1) for each in (whole, less))
    return float((before - after).square().sum()) / 2 * len(labels) / len(whole)


def imitated(answers: torch.Tensor, taught: torch.Tensor, temperature: float) -> torch.Tensor:
    """Compare with a teacher's vectors of the same texts: one by one, or where widths differ by how all lie."""
    if answers.shape == taught.shape:
        return similarity.aligned(answers, taught)
    return similarity.alike(answers, taught)


def together(teachers: Sequence[torch.Tensor], temperature: float) -> torch.Tensor:
    """Put several teachers' directions side by side: cosines are then the mean of theirs."""
    import torch
    from torch.nn import functional

    if len(teachers) == 1:
        return teachers[0]
    return torch.cat([functional.normalize(each.float(), dim=-1) for each in teachers], dim=-1)


def order(teacher: Model, student: Model) -> slice:
    """Take channels as they come."""
    return slice(None)


def alike(found: Sequence[torch.Tensor], wanted: Sequence[torch.Tensor]) -> dict[str, float]:
    """Say how near answers are to others, batch by batch: their mean cosine."""
    import torch

    return {"cosine": float(similarity.cosines(torch.cat(list(found)), torch.cat(list(wanted))).mean())}
