"""Tasks, one file each: which auto class opens the model, and how rows become batches.

A task's file holds:

* `AUTO_CLASS`, `PROCESSOR_CLASS`: names of the transformers classes that open the model and its processor;
* `ROLES`: the columns it reads, by role, and whether each is required;
* `METRICS`: what is measured when a recipe names no metrics;
* `prepare(rows, processor, max_length) -> Dataset`: rows with role names -> model inputs and `labels`;
* `collate(processor) -> Callable`: a list of those -> one padded batch of tensors.
"""

from __future__ import annotations

from types import ModuleType

from compressit import registry


def names() -> list[str]:
    """List the tasks there are, as recipes spell them."""
    return [name.replace("_", "-") for name in registry.names(__name__)]


def load(name: str) -> ModuleType:
    """Import a task by name; LookupError if there is none."""
    return registry.load(__name__, name)
