"""Cut tokens out of a fast tokenizer, through the JSON that describes it.

Where all tokens of a text stay, it is read as before. What that asks of each kind of tokenizer:

* WordLevel looks a word up. A word that stays is found as before.
* WordPiece takes the longest piece that fits, again and again. Among fewer pieces the one it took is still the longest.
  A word is unknown for a character that no piece starts with, and stays so: where each character inside a piece is a
  piece of its own, as in all vocabularies that the usual trainers made, no other piece can reach across it.
* BPE joins the pair of lowest rank, again and again, and never across the border of two tokens that it ends with. So a
  token comes about inside a text as it does by itself. The tokens on that way stay (`needs`); then in each state the
  pair that was joined before still can be, and still comes first, for there are only fewer.
* Unigram takes the cuts of the highest sum of scores. Without some that were not best, the best stays the best. An
  unknown character counts a little less than the lowest score of all, so the piece that has it stays as well; and where
  a character becomes unknown, it counts less than it did.

Bytes stay, and single characters, at least those that the kept pieces are made of: what goes is spelled with them.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping, Sequence, Set
from itertools import pairwise
from pathlib import Path
from typing import Any

from compressit.errors import StepError

Described = dict[str, Any]
"""A parsed tokenizer.json."""
FILE = "tokenizer.json"
KINDS = ("BPE", "Unigram", "WordLevel", "WordPiece")
BYTE = re.compile(r"<0x[0-9A-F]{2}>")
ALIASED = ("WordLevel", "WordPiece")
"""Kinds in which several tokens may have one id: what they do with text hangs on tokens, not on ids."""
KEPT = (
    "padding_side", "truncation_side", "model_max_length", "chat_template", "name_or_path", "model_input_names",
    "clean_up_tokenization_spaces",
)  # fmt: skip
"""Settings of a transformers tokenizer that its files may not hold."""


def described(tokenizer: Any) -> Described:
    """Describe a transformers tokenizer.

    Raises:
        StepError: there is no fast version of it, or its kind is not known.
    """
    if not getattr(tokenizer, "is_fast", False):
        raise StepError(
            f"{type(tokenizer).__name__} is a slow tokenizer, written in Python: tokens can't be cut out of it",
            hint="save the model with the fast version of its tokenizer, which writes a tokenizer.json",
        )
    found: Described = json.loads(tokenizer.backend_tokenizer.to_str())
    model = found["model"]
    if model["type"] in ALIASED:
        # Written out, tokens that share an id are all but one lost.
        model["vocab"] = tokenizer.backend_tokenizer.get_vocab(with_added_tokens=False)
    if model["type"] not in KINDS:
        raise StepError(f"tokens can't be cut out of a {model['type']} tokenizer")
    if model["type"].startswith("Word") and model["unk_token"] not in model["vocab"]:
        raise StepError("the tokenizer has no token for unknown words: without some of its words it would read none")
    return found


def pieces(spec: Described) -> dict[str, int]:
    """Give the id of each token of the model itself; added tokens may lie outside of it."""
    vocabulary = spec["model"]["vocab"]
    if spec["model"]["type"] == "Unigram":
        return {piece: index for index, (piece, _) in enumerate(vocabulary)}
    return dict(sorted(vocabulary.items(), key=lambda entry: int(entry[1])))


def added(spec: Described) -> dict[str, int]:
    """Give the id of each token that is found in a text before the model reads it: special ones, and others added."""
    return {token["content"]: token["id"] for token in spec["added_tokens"]}


def unknown(spec: Described) -> int | None:
    """Give the id that stands for what the model has no token for."""
    model = spec["model"]
    if model["type"] == "Unigram":
        return None if model["unk_id"] is None else int(model["unk_id"])
    return pieces(spec).get(model["unk_token"]) if model["unk_token"] is not None else None


def stay(spec: Described, characters: Set[str] | None = None) -> set[int]:
    """Find the tokens that any text needs: added ones, bytes, single characters, and what stands for unknown ones.

    Args:
        spec: The tokenizer.
        characters: Those that texts are made of, besides ASCII's; None for all there are.
    """
    model = spec["model"]
    found = {*added(spec).values(), *_ids(spec["post_processor"]), *_ids(spec["padding"])}
    if (unk := unknown(spec)) is not None:
        found.add(unk)
    if model["type"] == "WordLevel":
        return found
    if model["type"] == "Unigram":
        scores = [score for _, score in model["vocab"]]
        found.add(scores.index(min(scores)))
    every = characters is None or _byte_level(spec)
    # A corpus may lack a full stop by accident.
    letters = {*map(chr, range(128)), *(characters or ())}
    for piece, index in pieces(spec).items():
        letter = _bare(piece, model)
        byte = model.get("byte_fallback", False) and BYTE.fullmatch(piece)
        if byte or (len(letter) == 1 and (every or letter in letters)):
            found.add(index)
    return found


def characters(spec: Described, seen: Set[int]) -> set[str]:
    """List the characters that tokens are made of."""
    return {letter for piece, index in pieces(spec).items() if index in seen for letter in _bare(piece, spec["model"])}


def needs(spec: Described) -> Callable[[int], set[int]]:
    """Say which tokens must stay with a token, itself included."""
    model = spec["model"]
    if model["type"] != "BPE":
        return lambda index: {index}
    ids, ranks = pieces(spec), {pair: rank for rank, pair in enumerate(_pairs(model))}
    names = {index: piece for piece, index in ids.items()}
    before, after = model["continuing_subword_prefix"] or "", model["end_of_word_suffix"] or ""

    def found(index: int) -> set[int]:
        piece = names.get(index)
        way = _joined(_characters(piece, before, after), ranks, len(before)) if piece else []
        # A token that joining doesn't lead to was found as a whole.
        return {index, *(ids[each] for each in way)} if piece in way else {index}

    return found


def numbered(spec: Described, kept: set[int], rows: int) -> dict[int, int]:
    """Number the kept tokens anew, in their old order.

    Args:
        spec: The tokenizer.
        kept: Old ids.
        rows: How many tokens the model has embeddings for; those beyond come last.

    Returns:
        New ids by old ones, in order. Added tokens that the tokenizer's model doesn't know follow those that it knows,
        and ids that no token has follow these: tokenizers numbers them so.
    """
    known = set(pieces(spec).values())
    outside = set(added(spec).values()) - known

    def place(index: int) -> tuple[bool, int, int]:
        return index >= rows, 0 if index in known else 1 if index in outside else 2, index

    return {old: new for new, old in enumerate(sorted(kept, key=place))}


def cut(spec: Described, ids: Mapping[int, int]) -> Described:
    """Describe the tokenizer that has only some of the tokens.

    Args:
        spec: The tokenizer.
        ids: New ids by old ones, as `numbered` gives them; others may be read as one of these (`ALIASED`).
    """
    model = dict(spec["model"])
    left = {piece: ids[index] for piece, index in pieces(spec).items() if index in ids}
    if model["type"] == "Unigram":
        model["vocab"] = [entry for index, entry in enumerate(model["vocab"]) if index in ids]
        model["unk_id"] = None if model["unk_id"] is None else ids[model["unk_id"]]
    else:
        model["vocab"] = left
    if model["type"] == "BPE":
        skip = len(model["continuing_subword_prefix"] or "")
        model["merges"] = [[a, b] for a, b in _pairs(model) if {a, b, a + b[skip:]} <= left.keys()]
    tokens = [{**token, "id": ids[token["id"]]} for token in spec["added_tokens"]]
    return {
        **spec,
        "model": model,
        "added_tokens": sorted(tokens, key=lambda token: int(token["id"])),
        "post_processor": _with_ids(spec["post_processor"], ids),
        "padding": _with_ids(spec["padding"], ids),
    }


def reopened(tokenizer: Any, spec: Described, folder: Path) -> Any:
    """Open a transformers tokenizer of the same class and settings from another description.

    It goes through files, as it will for whoever opens the model: many classes build themselves anew from what they
    find there.

    Args:
        tokenizer: What it was.
        spec: What it shall be.
        folder: For the files.

    Raises:
        StepError: the class makes something else of it.
    """
    tokenizer.save_pretrained(folder)
    (folder / FILE).write_text(json.dumps(spec, ensure_ascii=False), encoding="utf-8")
    made = type(tokenizer).from_pretrained(folder)
    for name in KEPT:
        if hasattr(tokenizer, name):
            setattr(made, name, getattr(tokenizer, name))
    if made.get_vocab() != {**pieces(spec), **added(spec)}:
        raise StepError(f"{type(tokenizer).__name__} numbers its tokens in a way of its own: none can be cut out of it")
    return made


def save(processor: Any, folder: Path) -> None:
    """Write a tokenizer, or another processor, with all tokens that share an id."""
    processor.save_pretrained(folder)
    if not getattr(processor, "is_fast", False):
        return
    vocabulary = processor.backend_tokenizer.get_vocab(with_added_tokens=False)
    if len(set(vocabulary.values())) < len(vocabulary):
        file = folder / FILE
        spec = json.loads(file.read_text(encoding="utf-8"))
        spec["model"]["vocab"] = dict(sorted(vocabulary.items(), key=lambda entry: (entry[1], entry[0])))
        file.write_text(json.dumps(spec, ensure_ascii=False, indent=2), encoding="utf-8")


def check(
    before: Any, after: Any, spec: Described, ids: Mapping[int, int], reads: Mapping[int, int], texts: Sequence[str]
) -> int:
    """Read texts with both tokenizers, and count those whose tokens all stayed.

    Args:
        before: The tokenizer as it was.
        after: Without some of its tokens.
        spec: The description of `before`.
        ids: New ids by old ones, of the tokens that stayed.
        reads: The same and more: what else has an id now.
        texts: What to read.

    Raises:
        StepError: a text whose tokens all have an id is read in another way.
    """
    if not texts:
        return 0
    alike, unk = 0, unknown(spec)
    old, new = (each(list(texts), add_special_tokens=False, verbose=False)["input_ids"] for each in (before, after))
    for text, tokens, others in zip(texts, old, new, strict=True):
        same = [reads.get(token) for token in tokens] == others
        if not same and unk not in tokens and reads.keys() >= {*tokens}:
            raise StepError(f"without some of its tokens the tokenizer reads {text[:60]!r} in another way")
        alike += same and ids.keys() >= {*tokens}
    return alike


def _bare(piece: str, model: Mapping[str, Any]) -> str:
    """Take off a piece what only marks where in a word it stands."""
    before, after = model.get("continuing_subword_prefix") or "", model.get("end_of_word_suffix") or ""
    return piece.removeprefix(before).removesuffix(after)


def _byte_level(spec: Described) -> bool:
    """Tell whether single characters are bytes, of which any text may need any."""
    return '"ByteLevel"' in json.dumps([spec["pre_tokenizer"], spec["normalizer"]])


def _pairs(model: Mapping[str, Any]) -> list[tuple[str, str]]:
    """Give the pairs that BPE joins, first those that come first; files spell them in two ways."""
    split = (tuple(pair.split(" ")) if isinstance(pair, str) else pair for pair in model["merges"])
    return [(first, second) for first, second in split]


def _characters(piece: str, before: str, after: str) -> list[str]:
    """Spell a BPE token with the symbols that joining starts from."""
    inner = bool(before) and piece.startswith(before) and piece != before
    last = bool(after) and piece.endswith(after) and piece != after
    letters = list(piece.removeprefix(before).removesuffix(after) if last else piece.removeprefix(before))
    symbols = [letter if index == 0 and not inner else before + letter for index, letter in enumerate(letters)]
    return [*symbols[:-1], symbols[-1] + after] if last else symbols


def _joined(symbols: list[str], ranks: Mapping[tuple[str, str], int], skip: int) -> list[str]:
    """Give all symbols that joining passes through, the first and the last ones included."""
    way = list(symbols)
    while True:
        pairs = [(ranks[pair], index) for index, pair in enumerate(pairwise(symbols)) if pair in ranks]
        if not pairs:
            return way
        _, index = min(pairs)
        joined = symbols[index] + symbols[index + 1][skip:]
        symbols = [*symbols[:index], joined, *symbols[index + 2 :]]
        way.append(joined)


def _ids(part: Any) -> set[int]:
    """List the ids that a post-processor or the padding puts around a text."""
    found: set[int] = set()

    def note(index: int) -> int:
        found.add(index)
        return index

    _walk(part, note)
    return found


def _with_ids(part: Any, ids: Mapping[int, int]) -> Any:
    return _walk(part, ids.__getitem__)


def _walk(part: Any, change: Callable[[int], int]) -> Any:
    """Change the ids in a post-processor or the padding, in a copy."""
    if part is None:
        return None
    found = dict(part)
    if "pad_id" in found:
        found["pad_id"] = change(found["pad_id"])
    for name in found.keys() & {"sep", "cls"}:
        token, index = found[name]
        found[name] = [token, change(index)]
    if found.get("type") == "TemplateProcessing":
        found["special_tokens"] = {
            name: {**token, "ids": [change(index) for index in token["ids"]]}
            for name, token in found["special_tokens"].items()
        }
    if found.get("type") == "Sequence":
        found["processors"] = [_walk(each, change) for each in found["processors"]]
    return found
