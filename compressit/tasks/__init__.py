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
* `JUDGED_BY`: all roles that only judging needs (default: that one, and group);
* `OUTPUTS`: names of the model's outputs that it is judged by (default: logits); several are put side by side;
* `PLACES`: whether the answers are places among an example's tokens, and so hold for these tokens alone; `scored`
  gives the others `OUT_OF_REACH`;
* `reader(folder)`: what makes one tensor of the outputs and the inputs, where that is more;
* `keep(source, folder, width)`: copies what that needs along with a checkpoint or an export;
* `reads_own(folder)`: whether a model's folder says what `reader` needs (default: it is never asked for);
* `UNTRAINED`: beginnings of names of weights that a model may lack;
* `cut_at(folder)`: tokens at which texts are cut, where a model's folder says more than its tokenizer;
* `singly(rows)`: rows of one input each, where an example is several;
* `learned(rows)`: rows as training reads them, where it reads others than those that are judged;
* `CHOICES`: groups of roles, of which the data has one;
* `FIELDS`: fields of the data set that it alone reads, given to `prepare` where the evaluation split is measured;
* `SETTINGS`: fields of metrics that a recipe doesn't spell out;
* `scored(logits, labels)`: one row of logits and one label for each prediction, where an example holds many;
* `timed(batch) -> batch`: what is run for a timing, where that is not the batch as it is measured;
* `protocol(prepared, rows, processor, max_length, **fields)`: how examples were scored, for the report;
* `asked(rows, processor, max_length)`: `prepare` for rows that nobody has an answer to (default: `prepare` itself);
* `unfit(row, processor)`: why such a row can't be answered, None where it can;
* `classes(processor)`: what the model's classes are called, where that is not in its config;
* `DECODES`: whether the model is given what is right, too, token by token, as a decoder is when it learns: no row may
  lack it but one that is to be predicted, and a teacher answers batch by batch;
* `READ_BY`: those of `FIELDS` that decide how a model reads, so that `prepare` is given them in training, too;
* `inform(processor, config, folder)`: tells the processor what of a model's folder the task needs besides;
* `manner(processor, **fields)`: arrays of one element, by name, that go with each batch that is judged and say how the
  model is asked;
* `asker(processor)`: what asks a module about a batch's tensors, where that is more than one pass;
* `positions(module, inputs)`: which positions of what flows between blocks are no padding, where the model makes
  others of what its inputs have;
* `ELSEWHERE`: where a model of the task is put to use, where that is not `compressit predict`.

Where a row gives several examples, or several rows one, `prepare` adds a column `example` that numbers them from 0.
Where only a long row is cut into several, it adds a column `row` with the row's number, and where answers belong to
words, `words` with their numbers in that row.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any

from compressit import registry

if TYPE_CHECKING:
    import torch
    from datasets import Dataset
    from numpy.typing import NDArray

Reader = Callable[[Mapping[str, "torch.Tensor"], Mapping[str, "torch.Tensor"]], "torch.Tensor"]
"""(outputs of a model by name, its inputs) -> what it is judged by."""
Asker = Callable[[Any, Mapping[str, "torch.Tensor"]], "NDArray[Any]"]
"""(module, a batch's tensors) -> what it says of each example."""


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


def reader(name: str, folder: Path) -> Reader:
    """Give what makes one tensor of a model's outputs: the only one, or (..., outputs) where there are several.

    Args:
        name: The task.
        folder: Of the model, which may say how it is read.
    """
    make: Callable[[Path], Reader] | None = getattr(load(name), "reader", None)
    if make is not None:
        return make(folder)
    wanted = outputs(name)

    def read(given: Mapping[str, torch.Tensor], inputs: Mapping[str, torch.Tensor]) -> torch.Tensor:
        import torch

        parts = [given[output] for output in wanted]
        return parts[0] if len(parts) == 1 else torch.stack(parts, -1)

    return read


def reads_tokens(name: str) -> bool:
    """Say whether a task's models read texts, token by token."""
    return bool(load(name).PROCESSOR_CLASS == "AutoTokenizer")


def decodes(name: str) -> bool:
    """Say whether a task's models are given what is right, too, when they learn."""
    found: bool = getattr(load(name), "DECODES", False)
    return found


def read_by(name: str, fields: Mapping[str, Any]) -> dict[str, Any]:
    """Pick those fields of a data set that decide how a task's models read, and not only how they are judged."""
    wanted: tuple[str, ...] = getattr(load(name), "READ_BY", ())
    return {field: value for field, value in fields.items() if field in wanted}


def manner(name: str, processor: Any, fields: Mapping[str, Any]) -> dict[str, NDArray[Any]]:
    """Give what goes with each batch that is judged and says how the model is asked: arrays of one element."""
    say: Callable[..., dict[str, NDArray[Any]]] = getattr(load(name), "manner", lambda processor, **fields: {})
    return say(processor, **fields)


def asker(name: str, processor: Any, folder: Path) -> Asker:
    """Give what asks a model about a batch: by itself one pass, of which the task reads what it is judged by."""
    make: Callable[[Any], Asker] | None = getattr(load(name), "asker", None)
    if make is not None:
        return make(processor)
    read = reader(name, folder)
    return lambda module, inputs: read(module(**inputs), inputs).float().cpu().numpy()


def positions(name: str, module: Any, inputs: Mapping[str, torch.Tensor]) -> torch.Tensor | None:
    """Mark which positions of what flows between blocks are no padding, (B, T); None where nothing is padded."""
    own: Callable[..., torch.Tensor | None] | None = getattr(load(name), "positions", None)
    if own is not None:
        return own(module, inputs)
    mask = inputs.get("attention_mask")
    return None if mask is None else mask.bool()


def judged_by(name: str) -> tuple[str | None, ...]:
    """Name the roles that rows may lack unless they are evaluated."""
    found: tuple[str | None, ...] = getattr(load(name), "JUDGED_BY", (truth(name), "group"))
    return found


def singly(name: str, rows: Dataset) -> Dataset:
    """Give rows of which each is one input of the model, where a task's rows are several at once."""
    apart: Callable[[Dataset], Dataset] = getattr(load(name), "singly", lambda rows: rows)
    return apart(rows)


def learned(name: str, rows: Dataset) -> Dataset:
    """Give rows as training reads them."""
    chosen: Callable[[Dataset], Dataset] = getattr(load(name), "learned", lambda rows: rows)
    return chosen(rows)


def cut_at(name: str, folder: Path) -> int | None:
    """Read the tokens at which a task's texts are cut from a model's folder; None where that doesn't say."""
    found: int | None = getattr(load(name), "cut_at", lambda folder: None)(folder)
    return found


def reads_own(name: str, folder: Path) -> bool:
    """Say whether a model's folder says how the model is read."""
    found: bool = getattr(load(name), "reads_own", lambda folder: False)(folder)
    return found


def labelled(name: str) -> bool:
    """Say whether a task's models tell labels apart."""
    return truth(name) in ("label", "tags")


def keep(name: str, source: Path, folder: Path, width: int) -> None:
    """Copy what a task needs of a model's folder besides the model, to where that was saved with hidden states so wide.

    Raises:
        StepError: it doesn't go with that width.
    """
    getattr(load(name), "keep", lambda source, folder, width: None)(source, folder, width)


def names() -> list[str]:
    """List the tasks there are, as recipes spell them."""
    return [name.replace("_", "-") for name in registry.names(__name__)]


def load(name: str) -> ModuleType:
    """Import a task by name; LookupError if there is none."""
    return registry.load(__name__, name)
