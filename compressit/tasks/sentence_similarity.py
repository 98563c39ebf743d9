"""Say how alike two texts mean: the cosine of their vectors, as sentence-transformers makes them.

Roles: `text` and `text_pair`, and `score`, a number that is the larger the more alike they are (STS-B's 0 to 5, say).
Only their order counts. Training does without scores, and without pairs, where a teacher is imitated.

A text's vector is made as the model's folder says (`modules.json`: pooling, dense layers, normalisation), else as the
mean over its tokens; these files are kept with the checkpoint, so that sentence-transformers opens it as it came. Texts
are cut at `max_length` tokens (default: what `sentence_bert_config.json` says, else the model's limit). A timing is of
one text of each pair, as a search engine runs it.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from compressit.outputs import Pairs
from compressit.tasks import _pooling
from compressit.tasks.text_classification import checked_length

if TYPE_CHECKING:
    from datasets import Dataset

AUTO_CLASS = "AutoModel"
PROCESSOR_CLASS = "AutoTokenizer"
ROLES = {"text": True, "text_pair": True, "score": True}
TRUTH = "score"
JUDGED_BY = ("score", "text_pair")
OUTPUT = Pairs
OUTPUTS = ("last_hidden_state",)
UNTRAINED = ("pooler.",)
METRICS = ("spearman", "latency", "throughput", "size")

SECOND = "pair_"
"""What the inputs of the second text are called beyond those of the first."""
reader = _pooling.read
cut_at = _pooling.cut_at
keep = _pooling.keep
reads_own = _pooling.declared


def prepare(rows: Dataset, processor: Any, max_length: int | None) -> Dataset:
    """Tokenize both texts, or the one there is; `labels` are scores, NaN where there is none."""
    paired, size = "text_pair" in rows.column_names, checked_length(processor, max_length)

    def tokenize(batch: dict[str, list[Any]]) -> dict[str, Any]:
        found = dict(processor(batch["text"], truncation=True, max_length=size))
        if paired:
            second = processor(batch["text_pair"], truncation=True, max_length=size)
            found |= {f"{SECOND}{name}": value for name, value in second.items()}
        return {**found, "labels": batch["score"]}

    return rows.map(tokenize, batched=True, remove_columns=rows.column_names, desc=None)


def collate(processor: Any) -> Callable[[list[dict[str, Any]]], dict[str, Any]]:
    """Pad all texts to the longest of them: the two of a pair one after the other, (2 x pairs, L)."""
    import torch

    def pad(examples: list[dict[str, Any]]) -> dict[str, Any]:
        labels = [example["labels"] for example in examples]
        texts = [text for example in examples for text in _texts(example)]
        return {**processor.pad(texts, return_tensors="pt"), "labels": torch.tensor(labels, dtype=torch.float32)}

    return pad


def singly(rows: Dataset) -> Dataset:
    """Give each text a row of its own, for what takes one at a time."""
    import datasets

    texts = [*rows["text"], *(rows["text_pair"] if "text_pair" in rows.column_names else ())]
    return datasets.Dataset.from_dict({"text": texts, "score": [float("nan")] * len(texts)})


def timed(batch: dict[str, Any]) -> dict[str, Any]:
    """Keep the first text of each pair."""
    return {name: array[::2] for name, array in batch.items()}


def _texts(example: dict[str, Any]) -> list[dict[str, Any]]:
    second = {name.removeprefix(SECOND): value for name, value in example.items() if name.startswith(SECOND)}
    first = {name: value for name, value in example.items() if name != "labels" and not name.startswith(SECOND)}
    return [first, second] if second else [first]
