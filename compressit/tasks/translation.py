"""Say in one language what a text says in another: an encoder-decoder, judged by what it generates.

Roles: `text` and its `translation`, which training learns from and what is generated is held against. WMT's layout, a
column with a field for each language, is read with `columns: {text: translation.en, translation: translation.de}`.

Texts are read and translations generated as for summarization: `max_length`, `max_target`, `prefix` where the model
wants one (T5's is "translate English to German: ") and `generation`. A model of many languages (NLLB, mBART) is told
them by `source_language` and `target_language`, as its tokenizer spells them. Timings generate 32 tokens for each text.
Only the checkpoint is judged: no export generates texts yet.
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
ROLES = {"text": True, "translation": True}
TRUTH = "translation"
DECODES = True
OUTPUT = Texts
FIELDS = ("prefix", "max_target", "source_language", "target_language", "generation")
READ_BY = ("prefix", "max_target", "source_language", "target_language")
METRICS = ("bleu", "chrf", "agreement", "latency", "size")


def prepare(
    rows: Dataset,
    processor: Any,
    max_length: int | None,
    prefix: str | None = None,
    max_target: int | None = None,
    source_language: str | None = None,
    target_language: str | None = None,
    generation: Mapping[str, Any] | None = None,
) -> Dataset:
    """Tokenize texts and their translations: `input_ids`, `attention_mask`, `labels` and `reference`.

    Raises:
        DataError: a length is beyond the model's limit, or the tokenizer doesn't know a language.
    """
    return _decoding.prepared(rows, processor, TRUTH, max_length, prefix, max_target, source_language, target_language)


def protocol(
    prepared: Dataset, rows: Dataset, processor: Any, max_length: int | None, **fields: Any
) -> dict[str, str | int]:
    """Say how texts were read and generated."""
    return _decoding.protocol(processor, max_length, **fields)
