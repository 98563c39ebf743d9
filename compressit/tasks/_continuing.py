"""How a language model reads a text and what goes on from it: tokens, and how many of them are given."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from compressit.algorithms.writing import spaced
from compressit.errors import DataError

CONTEXT = 2048
"""Tokens of a window where the recipe names none and the model takes more."""
Window = tuple[Sequence[int], int]
"""Tokens, and how many at the start are not scored."""
Tokenize = Callable[[str], list[int]]


def window(processor: Any, max_length: int | None) -> int:
    """Tokens of a window.

    Raises:
        DataError: `max_length` is beyond the model's limit, or leaves nothing to predict.
    """
    limit: int = processor.model_max_length
    if max_length is None:
        return min(limit, CONTEXT)
    if max_length > limit:
        raise DataError(f"max_length {max_length} is beyond the {limit} tokens that the model takes")
    if max_length < 2:
        raise DataError("max_length 1 leaves no token to predict")
    return max_length


def continuation(context: str, wanted: str, tokens: Tokenize, size: int) -> Window:
    """Put a text and what goes on from it together, of which only the latter is scored; a space goes between words.

    Raises:
        DataError: there is nothing to predict.
    """
    if not wanted.strip():
        raise DataError("a continuation is empty: there is nothing to predict")
    stem = context.rstrip()
    # Most tokenizers keep a space with the word that follows it.
    space = context[len(stem) :] or (" " if spaced(context, wanted) else "")
    whole = tokens(stem + space + wanted)
    given = len(tokens(stem))
    if given >= len(whole):
        raise DataError(f"the continuation {wanted[:40]!r} has no token of its own")
    # Of a context that is too long the end counts; a first token has nothing to be predicted from.
    cut = max(0, len(whole) - size)
    return whole[cut:], max(1, given - cut)


def tokenizing(processor: Any) -> Tokenize:
    """Tokenize with the start token that the tokenizer puts by itself, unless the text holds it already."""
    start = start_of(processor)

    def tokenize(text: str) -> list[int]:
        tokens = plain(processor, text)
        return tokens if start and tokens[: len(start)] == start else [*start, *tokens]

    return tokenize


def plain(processor: Any, text: str) -> list[int]:
    """Tokenize with nothing around."""
    # `verbose` warns of texts longer than the model's limit, which are cut later.
    tokens: list[int] = processor(text, add_special_tokens=False, verbose=False)["input_ids"]
    return tokens


def start_of(processor: Any) -> list[int]:
    """Find what the tokenizer puts before every text."""
    bare, whole = plain(processor, "a"), processor("a")["input_ids"]
    places = range(len(whole) - len(bare) + 1)
    return next((list(whole[:at]) for at in places if whole[at : at + len(bare)] == bare), [])
