"""Go on with a text: a causal language model, judged by how well it predicts the next token.

Roles, one of three kinds of rows: `text`, a document; `messages`, a conversation as a list of {role, content}, written
out by the tokenizer's own chat template; or `context` and `continuation`, of which only the continuation's tokens are
scored (LAMBADA's last words; a space goes between the two where neither has one).

Texts are cut into windows of `max_length` tokens (default: the model's limit, at most 2048):

* `packing: joined`, the default for texts, puts a blank line between the rows, tokenizes the whole once, cuts it into
  windows and leaves out the incomplete one at the end: the protocol behind published WikiText perplexities;
* `packing: documents`, the default for conversations, cuts every row by itself and keeps its shorter last window.

A window's first token is never scored. With `stride` windows overlap: each starts that many tokens after the one
before it, and only tokens that no window before it held are scored. A start token (BOS) stands where the tokenizer puts
one by itself, before the whole or before each document, never twice; end tokens are not added. Training and calibration
use joined windows.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from itertools import chain
from typing import TYPE_CHECKING, Any

from compressit.algorithms import likelihood
from compressit.algorithms.likelihood import NOT_SCORED
from compressit.errors import DataError
from compressit.outputs import TokenScores
from compressit.tasks import _templates
from compressit.tasks._continuing import Window, continuation, plain, start_of, tokenizing, window

if TYPE_CHECKING:
    import torch
    from datasets import Dataset

AUTO_CLASS = "AutoModelForCausalLM"
PROCESSOR_CLASS = "AutoTokenizer"
ROLES = {"text": False, "messages": False, "context": False, "continuation": False}
CHOICES = (("text",), ("messages",), ("context", "continuation"))
FIELDS = ("packing", "stride")
OUTPUT = TokenScores
METRICS = ("perplexity", "agreement", "kl_divergence", "latency", "throughput", "size")
SETTINGS = {"throughput": {"batch_size": 4}}

ELSEWHERE = (
    "serve the checkpoint, with vLLM (`vllm serve DIR/checkpoint`) say, or generate with transformers: "
    'pipeline("text-generation", "DIR/checkpoint")'
)


def prepare(
    rows: Dataset, processor: Any, max_length: int | None, packing: str | None = None, stride: int | None = None
) -> Dataset:
    """Cut rows into windows: `input_ids`, `labels` (-100 where not scored) and the number of the `example` it is of.

    Raises:
        DataError: `max_length` is beyond the model's limit, `stride` beyond that, or there is nothing to score.
    """
    import datasets

    size = window(processor, max_length)
    step = stride or size
    if step > size:
        raise DataError(f"stride {step} is longer than a window of {size} tokens: tokens between windows would be lost")
    if stride is not None and "continuation" in rows.column_names:
        raise DataError("stride is from window to window, and a continuation is one", hint="leave it out")
    examples = list(filter(None, _examples(rows, processor, size, step, packing)))
    if not examples:
        raise DataError("there is no token to score: every text is empty or a single token")
    columns: dict[str, list[Any]] = {"input_ids": [], "labels": [], "example": []}
    for number, windows in enumerate(examples):
        for tokens, given in windows:
            columns["input_ids"].append(list(tokens))
            columns["labels"].append([NOT_SCORED] * given + list(tokens[given:]))
            columns["example"].append(number)
    return datasets.Dataset.from_dict(columns)


def collate(processor: Any) -> Callable[[list[dict[str, Any]]], dict[str, Any]]:
    """Pad on the right, whatever the tokenizer does: no token sees what comes after it, and positions stay true."""
    import torch

    filler = next((token for token in (processor.pad_token_id, processor.eos_token_id) if token is not None), 0)

    def pad(examples: list[dict[str, Any]]) -> dict[str, Any]:
        longest = max(len(example["input_ids"]) for example in examples)

        def filled(rows: list[list[int]], value: int) -> torch.Tensor:
            return torch.tensor([[*row, *[value] * (longest - len(row))] for row in rows])

        tokens = [example["input_ids"] for example in examples]
        return {
            "input_ids": filled(tokens, filler),
            "attention_mask": filled([[1] * len(row) for row in tokens], 0),
            "labels": filled([example["labels"] for example in examples], NOT_SCORED),
        }

    return pad


def scored(logits: torch.Tensor, labels: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Pick what training learns from: the logits before each scored token, and those tokens."""
    return likelihood.scored(logits, labels)


def timed(batch: dict[str, Any]) -> dict[str, Any]:
    """Ask for the last token's logits only, as a server does when it has read a prompt."""
    import numpy as np

    return {**batch, "logits_to_keep": np.array([batch["input_ids"].shape[1] - 1])}


def protocol(
    prepared: Dataset,
    rows: Dataset,
    processor: Any,
    max_length: int | None,
    packing: str | None = None,
    stride: int | None = None,
) -> dict[str, str | int]:
    """Say how the rows were scored, so that a figure can be compared with others."""
    how = _packing(rows, packing)
    begin = [] if how == "conversations" else start_of(processor)
    size = window(processor, max_length)
    said: dict[str, str | int] = {"packing": how, "context length": size}
    if how in ("joined", "documents", "conversations"):
        said |= {"stride": stride or size, "windows": len(prepared)}
    if how == "joined":
        said["tail"] = "left out"
    if how != "conversations":
        said["start token"] = processor.decode(begin) if begin else "none"
    scored = sum(token != NOT_SCORED for token in chain.from_iterable(prepared["labels"]))
    return {**said, "scored tokens": scored}


def _packing(rows: Dataset, packing: str | None) -> str:
    if "continuation" in rows.column_names or "messages" in rows.column_names:
        kind = "continuations" if "continuation" in rows.column_names else "conversations"
        if packing is not None:
            raise DataError(f"packing: {packing} is for plain text; {kind} are scored one by one", hint="leave it out")
        return kind
    return packing or "joined"


def _examples(rows: Dataset, processor: Any, size: int, step: int, packing: str | None) -> Iterator[list[Window]]:
    """Give the windows of each example."""
    how, tokenize = _packing(rows, packing), tokenizing(processor)
    if how == "continuations":
        for context, wanted in zip(rows["context"], rows["continuation"], strict=True):
            yield [continuation(context, wanted, tokenize, size)]
    elif how == "conversations":
        for text in _templates.written(processor, rows["messages"]):
            yield list(_cut(plain(processor, text), size, step))
    elif how == "documents":
        for text in rows["text"]:
            yield list(_cut(tokenize(text), size, step))
    else:
        whole = tokenize("\n\n".join(rows["text"]))
        for some, given in _cut(whole, size, step):
            # A text shorter than one window is all there is.
            yield [(some, given)] if len(some) == size or len(whole) < size else []


def _cut(tokens: list[int], size: int, step: int) -> Iterator[Window]:
    done = 0
    for start in range(0, len(tokens), step):
        end = min(start + size, len(tokens))
        given = max(1, done - start)
        if end - start > given:
            yield tokens[start:end], given
        done = end
        if end == len(tokens):
            return
