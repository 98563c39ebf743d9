"""A tokenizer as llama.cpp reads it."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from typing import Any

from compressit.errors import StepError
from compressit.model import tokens
from compressit.tasks._continuing import plain, start_of

NORMAL, UNKNOWN, CONTROL, GIVEN, UNUSED, BYTE = 1, 2, 3, 4, 5, 6
"""Kinds of tokens, as GGUF numbers them."""
SPLIT = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|DIGITS"
    r"| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)
SPLITS = {SPLIT.replace("DIGITS", r"\p{N}{1,3}"): "llama-bpe", SPLIT.replace("DIGITS", r"\p{N}"): "qwen2"}
"""How texts are split ahead of byte-level BPE, and what llama.cpp calls it."""
SPACE = "\u2581"
NFC = {"type": "NFC"}
"""Composes characters, which llama.cpp leaves as they are."""


def described(processor: Any, count: int) -> dict[str, Any]:
    """Give the fields of a GGUF file about a tokenizer, by what its writer calls them.

    Args:
        processor: A fast tokenizer of the transformers library.
        count: Rows of the embeddings; those beyond the tokenizer's are marked as unused.

    Raises:
        StepError: llama.cpp doesn't know this kind.
    """
    spec = tokens.described(processor)
    model, names = spec["model"], processor.get_vocab()
    if model["type"] != "BPE":
        raise _unknown(f"{model['type']} is not BPE")
    by_id = {number: token for token, number in names.items()}
    if max(by_id) >= count:
        raise StepError(
            f"gguf: the tokenizer has a token {max(by_id)}, and the model has embeddings for {count}",
            hint="leave the export of this model out",
        )
    special = {each["id"]: each["special"] for each in spec["added_tokens"]}

    def kind(number: int) -> int:
        if number in special:
            return UNKNOWN if number == processor.unk_token_id else CONTROL if special[number] else GIVEN
        if number not in by_id:
            return UNUSED
        return BYTE if model.get("byte_fallback") and tokens.BYTE.fullmatch(by_id[number]) else NORMAL

    found: dict[str, Any] = {
        "token_list": [by_id.get(number, f"[UNUSED{number}]") for number in range(count)],
        "token_types": [kind(number) for number in range(count)],
        "add_bos_token": _puts_start(processor),
        "add_eos_token": False,
    }
    if model.get("byte_fallback"):
        found |= _by_rank(spec, names, count)
    else:
        merges = [pair if isinstance(pair, str) else " ".join(pair) for pair in model["merges"]]
        found |= {"tokenizer_model": "gpt2", "tokenizer_pre": _split(spec), "token_merges": merges}
    for name in ("bos", "eos", "unk", "pad"):
        if (number := getattr(processor, f"{name}_token_id")) is not None:
            found[f"{name}_token_id"] = number
    if isinstance(template := getattr(processor, "chat_template", None), str):
        found["chat_template"] = template
    return found


def check(processor: Any, text: str, other: Callable[[str], list[int]]) -> None:
    """Hold llama.cpp's tokens of a text against the tokenizer's.

    Raises:
        StepError: they differ.
    """
    own, found = processor(text, verbose=False)["input_ids"], other(text)
    if own != found:
        at = next((at for at, (a, b) in enumerate(zip(own, found, strict=False)) if a != b), min(len(own), len(found)))
        around = (repr(processor.decode(ids[max(0, at - 3) : at + 3])) for ids in (own, found))
        raise StepError(
            f"gguf: llama.cpp reads a text as other tokens than the tokenizer: {' and '.join(around)} from token {at}",
            hint="leave the export out, and report the tokenizer",
        )


def _puts_start(processor: Any) -> bool:
    start, whole = start_of(processor), processor("a")["input_ids"]
    if start not in ([], [processor.bos_token_id]) or len(whole) > len(start) + len(plain(processor, "a")):
        raise _unknown("it puts other tokens around a text than one at the start")
    return bool(start)


def _by_rank(spec: Mapping[str, Any], names: Mapping[str, int], count: int) -> dict[str, Any]:
    """Describe pieces with a sign for the space, which are joined in the order of their scores."""
    before = spec["pre_tokenizer"] or {"type": "Metaspace", "prepend_scheme": "never"}
    if before["type"] != "Metaspace":
        raise _unknown(json.dumps(before))
    scores = [-1e6] * count
    for rank, pair in enumerate(spec["model"]["merges"]):
        number = names["".join(pair.split(" ") if isinstance(pair, str) else pair)]
        scores[number] = max(scores[number], -float(rank))
    steps = (spec["normalizer"] or {}).get("normalizers", [])
    prepends = any(step["type"] == "Prepend" and step["prepend"] == SPACE for step in steps)
    return {
        "tokenizer_model": "llama",
        "tokenizer_pre": "default",
        "token_scores": scores,
        "add_space_prefix": prepends or before["prepend_scheme"] != "never",
    }


def _split(spec: Mapping[str, Any]) -> str:
    """Name how texts are split ahead of byte-level BPE."""
    if (spec["normalizer"] or NFC) != NFC:
        raise _unknown(json.dumps(spec["normalizer"]))
    before = spec["pre_tokenizer"] or {}
    *ahead, last = before.get("pretokenizers", [before])
    if last.get("type") == "ByteLevel" and not last.get("add_prefix_space"):
        if not ahead and last.get("use_regex", True):
            return "gpt-2"
        if ahead == [{"type": "Digits", "individual_digits": True}] and last.get("use_regex", True):
            return "smollm"
        if len(ahead) == 1 and ahead[0]["type"] == "Split" and ahead[0]["pattern"].get("Regex") in SPLITS:
            return SPLITS[ahead[0]["pattern"]["Regex"]]
    raise _unknown(json.dumps(before))


def _unknown(what: str) -> StepError:
    return StepError(
        f"gguf: it is not known what llama.cpp calls a tokenizer like this: {what[:200]}",
        hint="leave the export of this model out",
    )
