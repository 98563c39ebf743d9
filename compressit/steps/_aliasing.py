"""Which tokens to keep where others are read as the closest of them, and what close means to a model."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from compressit.model import Model
from compressit.steps import StepContext
from compressit.steps._answers import said, worth
from compressit.steps._calibration import batches

if TYPE_CHECKING:
    import torch

EVEN = 0.1
"""Share of the mean that directions count which the logits do not hang on: calibration has not met all there are."""
ONCE = 200
"""Tokens that are kept before distances are measured anew."""
CHUNK = 1024


def placed(model: Model, batch_size: int, context: StepContext) -> torch.Tensor:
    """Place the tokens so that two lie as far apart as logits feel one stand for the other: (V, H).

    The square of a distance is that of the change of the logits, classes taken together, to first order, averaged over
    the tokens of the calibration data: the embeddings' difference in the metric E[J^T J].
    """
    import torch

    embedding = model.module.get_input_embeddings()
    rows_VH = embedding.weight.detach().float().cpu()
    metric_HH = torch.zeros(rows_VH.shape[1], rows_VH.shape[1])
    draw, held, kind = torch.Generator().manual_seed(context.seed), [], worth(model.task)

    def watch(module: Any, args: Any, out: torch.Tensor) -> torch.Tensor:
        held.append(out.detach().requires_grad_())
        return held[-1]

    hook = embedding.register_forward_hook(watch)
    try:
        with torch.enable_grad():
            for inputs, labels in batches(model, batch_size, context, "embeddings"):
                held.clear()
                answers = kind.levelled(kind.scored(model.task, said(model, inputs), labels)[0].float())
                # By a random sum of them: its squared slope is, on average, theirs added up.
                signs = torch.randn(answers.shape, generator=draw).to(answers.device)
                (slope,) = torch.autograd.grad((signs * answers).sum(), held[0])
                slope_TH = slope[inputs["attention_mask"].bool()].float().cpu()
                metric_HH += slope_TH.T @ slope_TH
    finally:
        hook.remove()
    values_H, vectors_HH = torch.linalg.eigh(metric_HH)
    values_H = values_H.clamp(min=0) + EVEN * values_H.mean()
    placed_VH: torch.Tensor = rows_VH @ (vectors_HH * values_H.sqrt())
    return placed_VH


def worth_keeping(
    placed_VH: torch.Tensor, counts: Mapping[int, int], stay: Collection[int], never: Collection[int], keep: int
) -> set[int]:
    """Choose tokens that others can be read as: first those that would be missed most.

    That is how often one occurs, and once more for texts that are not known, times the square of its distance from the
    closest that is kept.

    Args:
        placed_VH: From `placed`.
        counts: How often each token occurs.
        stay: Those kept in any case.
        never: Those no other is read as, such as special ones.
        keep: How many to keep in all.
    """
    import torch

    kept = set(stay)
    weight_V = torch.ones(len(placed_VH))
    for token, count in counts.items():
        weight_V[token] += count
    far_V = torch.full_like(weight_V, torch.inf)
    new = kept - set(never)
    while len(kept) < min(keep, len(placed_VH)):
        if new:
            others_KH = placed_VH[torch.tensor(sorted(new))]
            near = [torch.cdist(part_VH, others_KH).amin(1).square() for part_VH in placed_VH.split(CHUNK)]
            far_V = torch.minimum(far_V, torch.cat(near))
        missed_V = weight_V * far_V
        missed_V[torch.tensor(sorted(kept | set(never)))] = -1
        order = torch.argsort(missed_V, descending=True, stable=True)
        new = {token for token in order[: min(ONCE, keep - len(kept))].tolist() if missed_V[token] >= 0}
        if not new:
            break
        kept |= new
    return kept


def closest(placed_VH: torch.Tensor, of: Sequence[int], among: Sequence[int]) -> dict[int, int]:
    """Find for each token the closest of others."""
    import torch

    others_KH = placed_VH[torch.tensor(among)]
    found: dict[int, int] = {}
    for start in range(0, len(of), CHUNK):
        some = of[start : start + CHUNK]
        places = torch.cdist(placed_VH[torch.tensor(some)], others_KH).argmin(1).tolist()
        found |= {token: among[place] for token, place in zip(some, places, strict=True)}
    return found
