"""Write a short text that says what a long one says: an encoder-decoder, judged by what it generates.

Roles: `text` and its `summary`, which training learns from and what is generated is held against.

Texts are cut at `max_length` tokens (default: the model's limit, at most 1,024), with `prefix` before each where the
model wants one (T5's is "summarize: "), and summaries at `max_target` to learn from. What is judged is generated, from
the saved checkpoint, greedily or by beams, never drawn at random: as `generation` says, or else the model's own
generation_config.json; 128 new tokens at most where neither sets a limit. Timings generate 32 tokens for each text, so
that nothing is faster for saying less. Only the checkpoint is judged: no export generates texts yet.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from compressit.outputs import Texts
from compressit.tasks import _decoding
from compressit.tasks._decoding import asker, collate, inform, manner, scored, timed

if TYPE_CHECKING:
    from datasets import Dataset

__all__ = ["asker", "collate", "inform", "manner", "scored", "timed"]

AUTO_CLASS = "AutoModelForSeq2SeqLM"
PROCESSOR_CLASS = "AutoTokenizer"
ROLES = {"text": True, "summary": True}
TRUTH = "summary"
DECODES = True
OUTPUT = Texts
FIELDS = ("prefix", "max_target", "generation")
READ_BY = ("prefix", "max_target")
METRICS = ("rouge", "agreement", "latency", "size")


def prepare(
    rows: Dataset,
    processor: Any,
    max_length: int | None,
    prefix: str | None = None,
    max_target: int | None = None,
    generation: Mapping[str, Any] | None = None,
) -> Dataset:
    """Tokenize texts and their summaries: `input_ids`, `attention_mask`, `labels` and `reference`.

    Raises:
        DataError: a length is beyond the model's limit.
    """
    return _decoding.prepared(rows, processor, TRUTH, max_length, prefix, max_target)


def protocol(
    prepared: Dataset, rows: Dataset, processor: Any, max_length: int | None, **fields: Any
) -> dict[str, str | int]:
    """Say how texts were read and generated."""
    return _decoding.protocol(processor, max_length, **fields)
