"""Tasks, one file each: which auto class opens the model, and how rows become batches.

A task's file holds:

* `AUTO_CLASS`, `PROCESSOR_CLASS`: names of the transformers classes that open the model and its processor;
* `ROLES`: the columns it reads, by role, and whether each is required;
* `OUTPUT`: the kind of `compressit.outputs` that its model's logits are reduced to, which metrics read;
* `METRICS`: what is measured when a recipe names no metrics;
* `prepare(rows, processor, max_length) -> Dataset`: rows with role names -> model inputs and `labels`;
* `collate(processor) -> Callable`: a list of those -> one padded batch of tensors.

These are optional:

* `TRUTH`: the role that says what is right (default: label, where there is one); training may do without it;
* `OUTPUTS`: names of the model's outputs that it is judged by (default: logits); several are put side by side;
* `PLACES`: whether the answers are places among an example's tokens, and so hold for these tokens alone; `scored`
  gives the others `OUT_OF_REACH`;
* `CHOICES`: groups of roles, of which the data has one;
* `FIELDS`: fields of the data set that it alone reads, given to `prepare` where the evaluation split is measured;
* `SETTINGS`: fields of metrics that a recipe doesn't spell out;
* `scored(logits, labels)`: one row of logits and one label for each prediction, where an example holds many;
* `timed(batch) -> batch`: what is run for a timing, where that is not the batch as it is measured;
* `protocol(prepared, rows, processor, max_length, **fields)`: how examples were scored, for the report.

Where a row gives several examples, or several rows one, `prepare` adds a column `example` that numbers them from 0.
Where only a long row is cut into several, it adds a column `row` with the row's number, and where answers belong to
words, `words` with their numbers in that row.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from types import ModuleType
from typing import Any, TypeVar

from compressit import registry

Array = TypeVar("Array")


OUT_OF_REACH = -1e9
"""Logit of a place that can't be an answer: its probability is 0, and the difference of two of them is no NaN."""


def truth(name: str) -> str | None:
    """Name the role of a task that says what is right; None where the text itself does."""
    module = load(name)
    found: str | None = getattr(module, "TRUTH", "label" if "label" in module.ROLES else None)
    return found


def outputs(name: str) -> tuple[str, ...]:
    """Name what a task's models give that they are judged by."""
    found: tuple[str, ...] = getattr(load(name), "OUTPUTS", ("logits",))
    return found


def places(name: str) -> bool:
    """Say whether a task's answers are places among an example's tokens."""
    found: bool = getattr(load(name), "PLACES", False)
    return found


def answer(name: str, given: Mapping[str, Array], stack: Callable[[Sequence[Array], Any], Array]) -> Array:
    """Make one array of a model's outputs: the only one, or (..., outputs) where there are several.

    Args:
        name: The task.
        given: Outputs by name, of torch or numpy.
        stack: torch.stack or numpy.stack.
    """
    parts = [given[output] for output in outputs(name)]
    return parts[0] if len(parts) == 1 else stack(parts, -1)


def names() -> list[str]:
    """List the tasks there are, as recipes spell them."""
    return [name.replace("_", "-") for name in registry.names(__name__)]


def load(name: str) -> ModuleType:
    """Import a task by name; LookupError if there is none."""
    return registry.load(__name__, name)
