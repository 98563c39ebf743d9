"""How much a model's answers feel the change of each matrix by itself: what a budget over all of them is spent by."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from compressit import data, tasks
from compressit.algorithms.spending import spend
from compressit.errors import StepError
from compressit.model import Model
from compressit.model.matrices import Matrix
from compressit.steps import StepContext
from compressit.steps._answers import many, said, worth

if TYPE_CHECKING:
    import torch

ROWS, BATCH = 64, 16
"""Calibration rows that are asked, spread over the split, and how many at once."""
TEXTS, HELD = 8, 1 << 28
"""Rows where each has an answer at every token, one at once; and numbers of answers that are kept, 1 GB: a text more
than fit may be asked."""
GRID = 0.01
"""How finely a budget is spent."""
LEAST = 1e-9
"""Nats below which nobody tells one price from another."""

Change = Callable[[Matrix, "torch.Tensor", float], "torch.Tensor"]
"""(matrix, its weights (O, I) in float32, an amount) -> the weights with so much taken."""


def spread(
    model: Model,
    chosen: Mapping[str, Matrix],
    share: float,
    probes: Sequence[float],
    change: Change,
    context: StepContext,
) -> dict[str, float]:
    """Say how much to take from each matrix, so that all together lose a share of their weights.

    Each matrix is changed by itself, by each of a few amounts, and some rows say how far the answers move (KL
    divergence in nats, or 1 - cosine); between the amounts, prices lie on a line in their logarithm. Prices of parts
    don't add up in truth: they rank.

    Args:
        model: Its weights are in memory; left as it was.
        chosen: The matrices.
        share: Of all their weights.
        probes: Amounts to try, rising; none is taken outside of these.
        change: Takes an amount from a matrix.
        context: With calibration rows.
    """
    prices = felt(model, {name: (matrix,) for name, matrix in chosen.items()}, probes, change, context)
    count = max(1, round((probes[-1] - probes[0]) / GRID))
    amounts = [probes[0] + (probes[-1] - probes[0]) * step / count for step in range(count + 1)]
    state = model.module.state_dict(keep_vars=True)
    sizes = [matrix.of(state).numel() for matrix in chosen.values()]
    places = spend([_between(amounts, probes, prices[name]) for name in chosen], sizes, amounts, share)
    return {name: amounts[place] for name, place in zip(chosen, places, strict=True)}


def felt(
    model: Model,
    parts: Mapping[str, Sequence[Matrix]],
    probes: Sequence[float],
    change: Change,
    context: StepContext,
) -> dict[str, list[float]]:
    """Measure how far the answers move when the matrices of one part are changed, by each of some amounts.

    Args:
        model: Its weights are in memory; left as it was.
        parts: Matrices that are changed together, by a name for them.
        probes: Amounts to try.
        change: Changes a matrix by an amount.
        context: With calibration rows.

    Returns:
        By part, for each amount KL divergence in nats, or 1 - cosine, a mean over answers.
    """
    import torch

    assert context.calibration is not None, "asked for by the step"
    task: Any = tasks.load(model.task)
    prepared = task.prepare(context.calibration, model.processor, context.max_length, **context.fields)
    most, size = (TEXTS, 1) if many(model.task) else (ROWS, BATCH)
    places = list(range(0, len(prepared), max(1, len(prepared) // most))[:most])
    apart, collate = worth(model.task).apart, task.collate(model.processor)
    state = model.module.state_dict(keep_vars=True)
    found: dict[str, list[float]] = {name: [] for name in parts}
    with torch.inference_mode():
        asked, held = [], 0
        for _, batch in data.batched(prepared, collate, places, size):
            inputs = {key: value.to(context.device) for key, value in batch.items() if key != "labels"}
            asked.append((inputs, batch["labels"].to(context.device), said(model, inputs)))
            held += asked[-1][-1].numel()
            if held > HELD:
                break
        count = sum(len(labels) for _, labels, _ in asked)
    with torch.no_grad(), context.progress.bar("what each matrix matters", len(parts)) as advance:
        for name, matrices in parts.items():
            before = [(matrix, matrix.of(state).data, matrix.of(state).data.clone()) for matrix in matrices]
            for amount in probes:
                for matrix, weight_OI, held_OI in before:
                    weight_OI.copy_(change(matrix, held_OI.float(), amount))
                moved = sum(apart(model.task, right, said(model, inputs), labels) for inputs, labels, right in asked)
                for _, weight_OI, held_OI in before:
                    weight_OI.copy_(held_OI)
                if not math.isfinite(moved):
                    raise StepError(f"the answers are no numbers once {name} is changed by {amount:.3g}")
                found[name].append(max(float(moved) / count, LEAST))
            advance(1)
    return found


def _between(amounts: Sequence[float], probes: Sequence[float], prices: Sequence[float]) -> list[float]:
    import numpy as np

    return [float(price) for price in np.exp(np.interp(amounts, probes, np.log(prices)))]
