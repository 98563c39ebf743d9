"""What tasks share whose models read one text and write another: rows to batches, and how texts are generated."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from compressit.algorithms.likelihood import NOT_SCORED
from compressit.errors import DataError, StepError
from compressit.tasks import Asker

if TYPE_CHECKING:
    import torch
    from datasets import Dataset
    from numpy.typing import NDArray

LONGEST, NEW, TIMED = 1024, 128, 32
"""Tokens of a text and of what is generated where nobody says, and of what is generated to take the time."""
BESIDES = ("reference",)
"""Columns of prepared rows that are not the model's inputs."""
ENCODED = ("input_ids", "attention_mask")
MANNER = (
    "num_beams", "max_new_tokens", "min_new_tokens", "length_penalty", "no_repeat_ngram_size", "repetition_penalty",
    "early_stopping", "forced_bos_token_id",
)  # fmt: skip
"""What of how texts are generated a recipe may decide, as transformers calls it."""
LANGUAGES = {"source_language": "src_lang", "target_language": "tgt_lang"}
BATCH = 256


@dataclass(frozen=True)
class Decoding:
    """What a model's folder says of its decoder.

    Attributes:
        start: The token that every text begins with.
        own: How the folder says that texts are generated.
        most: Tokens that it has positions for; None where it sets no limit.
    """

    start: int
    most: int | None = None
    own: Mapping[str, Any] = field(default_factory=dict)


def inform(processor: Any, config: Any, folder: Path) -> None:
    """Tell a tokenizer with which token the decoder starts, and how the folder says that texts are generated.

    Raises:
        StepError: the model is no encoder-decoder, or its files don't say how it starts.
    """
    from transformers import GenerationConfig

    if not config.is_encoder_decoder:
        raise StepError(
            f"{folder} holds a {config.model_type}, which doesn't read one text and write another: it has no decoder "
            "beside an encoder",
            hint="T5, BART, Marian, mBART, Pegasus and their kin have; a model that goes on with a text is of task "
            "text-generation",
        )
    said = (folder / "generation_config.json").is_file()
    own = (GenerationConfig.from_pretrained(folder) if said else GenerationConfig.from_model_config(config)).to_dict()
    starts = (
        own.get("decoder_start_token_id"),
        getattr(config, "decoder_start_token_id", None),
        own.get("bos_token_id"),
    )
    start = next((token for token in starts if isinstance(token, int)), None)
    if start is None:
        raise StepError(
            f"{folder} doesn't say with which token its decoder starts",
            hint="set decoder_start_token_id in its config.json",
        )
    most = getattr(config, "max_position_embeddings", None)
    processor.decoding = Decoding(start, most if isinstance(most, int) else None, own)


def prepared(
    rows: Dataset,
    processor: Any,
    role: str,
    max_length: int | None,
    prefix: str | None = None,
    max_target: int | None = None,
    source_language: str | None = None,
    target_language: str | None = None,
) -> Dataset:
    """Tokenize texts and what they are held against.

    Gives inputs; `labels`, the tokens of what is right, those alone that nobody scores where nobody knows; and
    `reference`, its text.

    Raises:
        DataError: a length is beyond the model's limit, or the tokenizer doesn't know a language.
    """
    size = length(processor, max_length)
    target = length(processor, max_target, "max_target") if max_target is not None else size
    _speak(processor, source_language=source_language, target_language=target_language)

    def cut(some: dict[str, list[Any]]) -> dict[str, list[Any]]:
        texts = [f"{prefix or ''}{text}" for text in some["text"]]
        made = processor(texts, truncation=True, max_length=size, verbose=False)
        known = [text or "" for text in some[role]]
        labels = processor(text_target=known, truncation=True, max_length=target, verbose=False)["input_ids"]
        true = [tokens if text else [NOT_SCORED] for text, tokens in zip(some[role], labels, strict=True)]
        return {**{name: made[name] for name in ENCODED}, "labels": true, "reference": known}

    return rows.map(cut, batched=True, batch_size=BATCH, remove_columns=rows.column_names, desc=None)


def length(processor: Any, wanted: int | None, name: str = "max_length") -> int:
    """Tokens at which texts are cut.

    Raises:
        DataError: more are wanted than the model takes, or too few to hold a token.
    """
    limit: int = processor.model_max_length
    if wanted is None:
        return min(limit, LONGEST)
    if wanted > limit:
        raise DataError(f"{name} {wanted} is beyond the {limit} tokens that the model takes")
    special = processor.num_special_tokens_to_add()
    if wanted <= special:
        raise DataError(f"{name} {wanted} leaves no room for a text beside {special} special tokens")
    return wanted


def collate(processor: Any) -> Callable[[list[dict[str, Any]]], dict[str, Any]]:
    """Pad texts and labels; the decoder is given the labels one place later, behind the token that it starts with."""
    import torch

    start, filler = processor.decoding.start, processor.pad_token_id

    def pad(examples: list[dict[str, Any]]) -> dict[str, Any]:
        inputs = processor.pad([{name: example[name] for name in ENCODED} for example in examples], return_tensors="pt")
        longest = max(len(example["labels"]) for example in examples)
        labels = torch.full((len(examples), longest), NOT_SCORED)
        for row, example in zip(labels, examples, strict=True):
            row[: len(example["labels"])] = torch.tensor(example["labels"])
        shifted = torch.cat([torch.full((len(examples), 1), start), labels[:, :-1]], dim=1)
        lengths = torch.tensor([len(example["labels"]) for example in examples])
        return {
            **inputs,
            "decoder_input_ids": shifted.masked_fill(shifted == NOT_SCORED, filler),
            "decoder_attention_mask": (torch.arange(longest) < lengths[:, None]).long(),
            "labels": labels,
        }

    return pad


def scored(logits: torch.Tensor, labels: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Pick what training learns from: the logits of each token that is right, given those before it: (N, V), (N,)."""
    here = labels != NOT_SCORED
    return logits[here], labels[here]


def manner(
    processor: Any, generation: Mapping[str, Any] | None = None, target_language: str | None = None, **unused: Any
) -> dict[str, NDArray[Any]]:
    """Say how texts are generated where it is not as the model's folder says: arrays of one element.

    Raises:
        DataError: the model has no positions for so many tokens.
    """
    import numpy as np

    how = dict(generation or {})
    own, most = processor.decoding.own, processor.decoding.most
    if most is not None and how.get("max_new_tokens", 0) > most:
        raise DataError(f"max_new_tokens {how['max_new_tokens']} is beyond the {most} tokens that the model can write")
    if "max_new_tokens" not in how and own.get("max_new_tokens") is None and own.get("max_length") is None:
        # Else transformers would stop after 20.
        how["max_new_tokens"] = max(min(NEW, most or NEW), how.get("min_new_tokens", 0))
    if target_language is not None:
        how["forced_bos_token_id"] = processor.convert_tokens_to_ids(target_language)
    return {name: np.array([value]) for name, value in how.items()}


def timed(batch: dict[str, Any]) -> dict[str, Any]:
    """Generate as many tokens for each text, so that no model is faster for saying less: 32, or what is allowed."""
    import numpy as np

    new = np.array([min([TIMED, *batch.get("max_new_tokens", [])])])
    return {**batch, "max_new_tokens": new, "min_new_tokens": new}


def asker(processor: Any) -> Asker:
    """Give what generates texts: (B,). Never drawn at random, whatever the model's folder says."""
    import numpy as np

    def ask(module: Any, inputs: Mapping[str, torch.Tensor]) -> NDArray[Any]:
        given = {name: inputs[name] for name in ENCODED if name in inputs}
        how = {name: inputs[name].item() for name in MANNER if name in inputs}
        made = module.generate(**given, **how, **_cache(module), do_sample=False, use_cache=True)
        texts = processor.batch_decode(made, skip_special_tokens=True)
        return np.array([text.strip() for text in texts], dtype=np.str_)

    return ask


def _cache(module: Any) -> dict[str, Any]:
    """Give a decoder with more blocks than its encoder, as T5's may have, room to keep what each has read.

    By itself transformers makes room for as many as the encoder has.
    """
    from transformers import DynamicCache, EncoderDecoderCache

    depth = getattr(module.config, "num_decoder_layers", None) or 0
    if depth <= getattr(module.config, "num_hidden_layers", depth):
        return {}
    return {"past_key_values": EncoderDecoderCache(DynamicCache(), DynamicCache())}


def protocol(
    processor: Any,
    max_length: int | None,
    generation: Mapping[str, Any] | None = None,
    **fields: Any,
) -> dict[str, str | int]:
    """Say how texts were read and generated, so that a figure can be compared with others."""
    own = {name: value for name in (*MANNER, "max_length", "min_length") if (value := processor.decoding.own.get(name))}
    ours = {name: each[0].item() for name, each in manner(processor, generation, **fields).items()}
    if "max_new_tokens" in ours:
        own.pop("max_length", None)
    if "min_new_tokens" in ours:
        own.pop("min_length", None)
    how = {"num_beams": 1, **own, **ours}
    read = {name: value for name, value in fields.items() if name != "max_target"}
    return {
        "source length": length(processor, max_length),
        **read,
        "generation": ", ".join(f"{name} {value}" for name, value in sorted(how.items())),
        "timed": f"at most {TIMED} new tokens, as many for each text",
    }


def _speak(processor: Any, **languages: str | None) -> None:
    """Set a tokenizer's languages."""
    for field_, language in languages.items():
        if language is None:
            continue
        name = LANGUAGES[field_]
        if not hasattr(processor, name):
            raise DataError(
                f"{field_}: {type(processor).__name__} is no tokenizer of many languages", hint="leave it out"
            )
        if processor.convert_tokens_to_ids(language) in (None, processor.unk_token_id):
            raise DataError(
                f"{field_} {language!r} is none that the tokenizer knows",
                hint="spell it as the tokenizer does, such as eng_Latn (NLLB) or en_XX (mBART)",
            )
        setattr(processor, name, language)
