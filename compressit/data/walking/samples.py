"""Calibration rows -> batches without padding: rows of one length share a batch, and what was padded is cut off."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from compressit import ranks, tasks
from compressit.errors import StepError

if TYPE_CHECKING:
    import torch
    from datasets import Dataset

    from compressit.model import Model

TOKENS, IMAGES = 2048, 16
"""About how many tokens, or how many images, are in a batch."""
NOT_INPUTS = ("labels", "special_tokens_mask")
MARKS = ("row", "words", "example", "begins", "ends", "reference", "length")
"""Columns of prepared rows that only say where these come from."""


def samples(
    rows: Dataset, model: Model, max_length: int | None, *, processes: int = 1, **fields: Any
) -> list[dict[str, Any]]:
    """Prepare rows for the walk.

    Padding could be masked out of attention and out of every statistic; but a sum over more numbers is rounded
    otherwise, so that only its absence changes no bit. Each batch holds rows of one shape.

    Args:
        rows: Columns named by role.
        model: Its task and processor prepare them.
        max_length: Tokens at which a text is cut.
        processes: How many walk together; each is given samples of its own.
        fields: Those of the data set that the task reads texts by.

    Returns:
        Collated batches of tensors; no labels.

    Raises:
        StepError: there are fewer samples than processes.
    """
    task = tasks.load(model.task)
    prepared = task.prepare(tasks.singly(model.task, rows), model.processor, max_length, **fields)
    prepared = prepared.remove_columns([name for name in MARKS if name in prepared.column_names])
    if len(prepared) < processes:
        raise StepError(
            f"{len(prepared)} calibration samples are too few for {processes} processes",
            hint="start fewer, or give the recipe more calibration rows",
        )
    prepared = prepared.select(ranks.dealt(range(len(prepared)), processes))
    by_shape: dict[Any, list[dict[str, Any]]] = defaultdict(list)
    for index in range(len(prepared)):
        row = _unpadded(prepared[index])
        by_shape[tuple(sorted((name, _shape(value)) for name, value in row.items()))].append(row)
    collate = task.collate(model.processor)
    found: list[dict[str, Any]] = []
    for _, alike in sorted(by_shape.items(), key=lambda entry: repr(entry[0])):
        ids = alike[0].get("input_ids")
        size = IMAGES if ids is None else max(1, TOKENS // max(1, len(ids)))
        # The first sample of all goes alone: the walk runs it once more in each block, to learn how that computes.
        alone = alike[: 0 if found else 1]
        rest = alike[len(alone) :]
        parts = [alone, *(rest[start : start + size] for start in range(0, len(rest), size))]
        for part in filter(None, parts):
            batch = collate(part)
            found.append({name: value for name, value in batch.items() if name not in NOT_INPUTS})
    return found


def ordinary(batches: Sequence[Mapping[str, Any]], model: Model) -> list[torch.Tensor | None]:
    """Mark, batch by batch, the positions that hold no special token: (B, T), bool; None for images."""
    import torch

    special = torch.tensor(sorted(getattr(model.processor, "all_special_ids", [])))
    found = [batch.get("input_ids") for batch in batches]
    return [None if ids is None else ~torch.isin(ids, special.to(ids.device)) for ids in found]


def _unpadded(row: Mapping[str, Any]) -> dict[str, Any]:
    """Cut off what the attention mask hides, in every column that goes along with it."""
    mask = row.get("attention_mask")
    if mask is None or all(mask):
        return dict(row)
    places = [place for place, real in enumerate(mask) if real]
    return {
        name: [value[place] for place in places] if isinstance(value, list) and len(value) == len(mask) else value
        for name, value in row.items()
    }


def _shape(value: Any) -> tuple[int, ...]:
    if hasattr(value, "shape"):
        return tuple(value.shape)
    return (len(value),) if isinstance(value, list) else ()
