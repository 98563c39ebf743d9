"""What a model answers, what its answers are worth to a step, and what a teacher would have answered."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

from compressit import data, ranks, tasks
from compressit.errors import StepError
from compressit.model import Model
from compressit.outputs import Pairs
from compressit.steps import StepContext, _classes, _vectors

if TYPE_CHECKING:
    import torch
    from datasets import Dataset

Objective = Callable[[Any, Mapping[str, "torch.Tensor"], "torch.Tensor", "torch.Tensor | None"], "torch.Tensor"]
"""(module, inputs, labels, what a teacher said of each answer beforehand or None) -> the scalar to minimise."""


def said(model: Model, inputs: Mapping[str, torch.Tensor], module: Any = None) -> torch.Tensor:
    """Run a model, or a module in its place, and give what the task judges it by."""
    return model.answer((model.module if module is None else module)(**inputs), inputs)


def worth(task: str) -> Any:
    """Give the module that says what answers of a task are worth: `_classes` or `_vectors`."""
    return _vectors if tasks.load(task).OUTPUT is Pairs else _classes


def many(task: str) -> bool:
    """Say whether an example has an answer at each of several positions."""
    return hasattr(tasks.load(task), "scored") and not tasks.places(task)


def live(task: str) -> bool:
    """Say whether a teacher answers batch by batch: there would be too many logits to keep, or they name tokens."""
    paired: bool = tasks.load(task).OUTPUT.PAIRED
    return paired or tasks.places(task) or tasks.decodes(task)


def by_labels(model: Model) -> Objective:
    """Give the objective of a task that labels alone teach."""
    loss = worth(model.task).loss

    def objective(
        module: Any, inputs: Mapping[str, torch.Tensor], labels: torch.Tensor, taught: torch.Tensor | None
    ) -> torch.Tensor:
        found: torch.Tensor = loss(model.task, said(model, inputs, module), labels)
        return found

    return objective


def teach(teacher: Model, student: Model, context: StepContext, batch_size: int = 32) -> list[torch.Tensor]:
    """Compute what a teacher says of each of the student's training rows, in the student's order of labels.

    The teacher reads with its own tokenizer or processor. Where that cuts rows into other windows, each word's
    answer goes to the student's window that holds the word.

    Returns:
        For each prepared row of the student, (answers, classes or channels) in float32.
    """
    import torch

    assert context.train is not None, "the plan refuses training without a training split"
    task, kind = tasks.load(teacher.task), worth(teacher.task)
    order = kind.order(teacher, student)
    own, other = (
        task.prepare(context.train, each.processor, context.max_length, **context.fields) for each in (student, teacher)
    )
    collate, answers = task.collate(teacher.processor), {}
    places = data.by_length(other)
    batches = [places[start : start + batch_size] for start in range(0, len(places), batch_size)]
    mine = [place for batch in ranks.dealt(batches, context.processes) for place in batch]
    with context.progress.bar("teacher", len(mine)) as advance, torch.inference_mode():
        for places, batch in data.batched(other, collate, mine, batch_size):
            on = {name: value.to(context.device) for name, value in batch.items()}
            labels = on.pop("labels")
            rows = said(teacher, on).float().cpu()
            each = len(rows) // len(places)
            for row, place in enumerate(places):
                own_rows = rows[row * each : (row + 1) * each]
                picked, _ = kind.scored(teacher.task, own_rows, labels[row : row + 1].cpu())
                answers[place] = picked[:, order]
            advance(len(places))
    return _of_windows(ranks.gathered(answers, context.processes), other, own)


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


def alike_tokens(one: Model, other: Model) -> bool:
    """Say whether two models read and write the same tokens, or none."""
    if not hasattr(other.processor, "get_vocab"):
        return True
    first, second = (each.module.config.get_text_config().vocab_size for each in (one, other))
    return bool(one.processor.get_vocab() == other.processor.get_vocab()) and first == second


def same_tokens(teacher: Model, student: Model) -> None:
    """Refuse a teacher that reads other tokens, where it is to judge what the student reads."""
    if not alike_tokens(teacher, student):
        raise StepError(
            f"the teacher {teacher.source} has another vocabulary than the model",
            hint="what it says of tokens, and how it gets there, is learned from a teacher of the same tokenizer",
        )
