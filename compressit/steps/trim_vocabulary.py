"""Keep only the tokens that a corpus uses.

The tokenizer and the embeddings are cut together, for good. A text whose tokens all stay is read as before and gets the
logits it got. What else there is to read is spelled with smaller pieces, which costs accuracy. Bytes, single
characters, special and added tokens stay, which sets a floor. An untied output matrix shrinks too; tied ones stay one.

With `others: nearest` it costs less: a token that goes is read as the one that stays whose embedding is closest, where
the logits feel the difference (their slopes on the calibration split); and those stay that have no such neighbour and
occur often. Several tokens of the tokenizer then have one id. They are in its tokenizer.json, and whoever opens that
reads so; but the tokenizers library leaves all but one of them out when it writes the file again.

The corpus is what the model is given of the training split and, where the recipe has one, of the calibration split. The
evaluation split is never looked at.

A new vocabulary is a new unit to count in: for a language model, figures per token (perplexity, agreement, divergence)
can't be compared with the original's, and the plan refuses them. Put `distill` before this step there.

Abdaoui et al. 2020, "Load What You Need", arXiv:2010.05609.

Recipe::

    - step: trim_vocabulary
      keep: 8000
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, ClassVar, Literal, Self

from pydantic import Field, model_validator

from compressit import anatomy, tasks, weights
from compressit.errors import RecipeError, StepError
from compressit.model import Model, tokens, vocabulary
from compressit.steps import Dial, Fact, Need, Notes, StepConfig, StepContext
from compressit.steps._aliasing import closest, placed, worth_keeping
from compressit.weights import Weight, Weights

if TYPE_CHECKING:
    from datasets import Dataset

TEXTS = ("text", "text_pair", "question", "context", "continuation")
"""Roles whose values are read as they stand."""
WORDS = "tokens"
"""The role whose values are lists of such texts."""
READING = ("question-answering", "sentence-similarity", "text-classification", "token-classification")
"""Tasks whose models write no text."""
BATCH = 1000
"""Texts read at once."""


class Config(StepConfig):
    """Fields of the step."""

    makes: ClassVar[frozenset[Fact]] = frozenset({Fact.SHAPES})
    keeps: ClassVar[frozenset[Fact]] = frozenset({Fact.SHAPES, Fact.SPARSITY, Fact.DTYPE, Fact.FACTORS})
    tasks: ClassVar[frozenset[str]] = frozenset({*READING, "text-generation"})
    renumbers: ClassVar[bool] = True

    keep: Annotated[int, Field(ge=1)] | Annotated[float, Field(gt=0, lt=1)] | None = None
    """At most so many tokens in all, the most frequent; or the most frequent that make up this share of the corpus
    (default: all that occur)."""
    min_count: int = Field(1, ge=1)
    """How often a token must occur."""
    alphabet: Literal["all", "seen"] = "all"
    """Whether all single characters stay, or ASCII's and those of the corpus; others are then unknown. Bytes stay.
    Where `keep` is small, `seen` leaves it to words: all characters are 2,000 of BERT's 30,522 tokens."""
    others: Literal["pieces", "nearest"] = "pieces"
    """Whether a token that goes is spelled with pieces that stay, or read as the closest of these: for tokenizers that
    look words or pieces up (WordPiece, WordLevel), models that write no text, and `keep` as a number."""
    batch_size: int = Field(32, ge=1)
    """Examples at once while it is measured what is close."""
    corpus: Literal["train", "calibration"] = "train"
    """Whether the training split decides, with the calibration split where there is one, or the latter alone."""

    def idle(self) -> Mapping[str, str]:
        """Name what one of the two ways to choose doesn't go by."""
        if self.others == "nearest":
            return dict.fromkeys(("min_count", "alphabet"), "others: pieces")
        return {"batch_size": "others: nearest"}

    def dial(self, table: Weights | None) -> Dial | None:
        """Turn the number of tokens that stay."""
        if not isinstance(self.keep, int) or table is None or table.vocabulary is None:
            return None
        count = table.vocabulary
        return Dial("keep", 1 - self.keep / count, lambda share: max(1, round((1 - share) * count)))

    def needs(self) -> frozenset[Need]:
        """Ask for the split that decides, and for one to measure on."""
        measured = self.others == "nearest" or self.corpus == "calibration"
        asked = {Need.TRAINING: self.corpus == "train", Need.CALIBRATION: measured}
        return frozenset(need for need, wanted in asked.items() if wanted)

    def looks_at(self) -> frozenset[Need]:
        """Look at the calibration split, too."""
        return self.needs() | {Need.CALIBRATION}

    @model_validator(mode="after")
    def _counted(self) -> Self:
        if self.others == "nearest" and not isinstance(self.keep, int):
            raise ValueError("others: nearest needs a number to keep; give `keep: 8000`, for example")
        return self


def run(model: Model, config: Config, context: StepContext) -> Notes:
    """Cut tokens out of the tokenizer and the model, in place."""
    config.refuse_others(model.task)
    spec, before = tokens.described(model.processor), vocabulary.size(model.module)
    splits = [context.calibration] if config.corpus == "calibration" else [context.train, context.calibration]
    corpus = [split for split in splits if split is not None]
    # Special tokens stay in any case, and say nothing of the corpus.
    special = set(tokens.added(spec).values())
    counts = {token: n for token, n in count(model, corpus, context.max_length).items() if token not in special}
    if out := [token for token in counts if token >= before]:
        raise StepError(f"the tokenizer uses token {out[0]}, and the model has embeddings for {before}")

    if config.others == "nearest":
        ids, reads = _merged(model, spec, counts, config, context)
    else:
        letters = tokens.characters(spec, counts.keys()) if config.alphabet == "seen" else None
        needs = tokens.needs(spec)
        stay = set[int]().union(*map(needs, tokens.stay(spec, letters) | vocabulary.named(model.module)))
        ids = reads = tokens.numbered(spec, chosen(config, counts, stay, needs), before)
    tokenizer = tokens.reopened(model.processor, tokens.cut(spec, reads), context.scratch / "tokenizer")
    texts = alike = 0
    with context.progress.bar(config.step, sum(map(len, corpus))) as advance:
        for some, rows in _texts(corpus):
            alike += tokens.check(model.processor, tokenizer, spec, ids, reads, some)
            texts += len(some)
            advance(rows)
    share = vocabulary.share(model.module)
    vocabulary.cut(model.module, ids)
    model.processor = tokenizer
    covered = sum(n for token, n in counts.items() if token in ids) / max(1, sum(counts.values()))
    return {
        "tokens_before": before,
        "tokens_after": vocabulary.size(model.module),
        "corpus_covered": round(covered, 5),
        **({"tokens_read_as_others": len(reads) - len(ids)} if reads is not ids else {}),
        **({"texts_read_alike": round(alike / texts, 5)} if texts else {}),
        "embedding_share_before": round(share, 4),
        "embedding_share_after": round(vocabulary.share(model.module), 4),
    }


def foresee(table: Weights, config: Config) -> Weights:
    """Cut the rows that go out of the table, where their number is known beforehand."""
    count, keep = table.vocabulary, config.keep
    if count is None or not isinstance(keep, int) or keep >= count:
        return table
    return table.changed(
        replace(tensor, shape=(keep, *tensor.shape[1:])) if _spans(table, tensor) else tensor
        for tensor in table.tensors
    )


def claim(folder: Path, config: Config) -> str | None:
    """Count the rows of the saved embeddings."""
    table = weights.read(folder)
    if not any(_spans(table, tensor) for tensor in table.tensors):
        return "the checkpoint holds no embeddings of as many tokens as its config.json says"
    if isinstance(config.keep, int) and (table.vocabulary or 0) > config.keep:
        return f"the checkpoint has {table.vocabulary} tokens, {config.keep} were to stay"
    return None


def count(model: Model, corpus: list[Dataset], max_length: int | None) -> Counter[int]:
    """Count how often the model is given each token."""
    found: Counter[int] = Counter()
    for rows in corpus:
        texts = tasks.singly(model.task, rows)
        for given in tasks.load(model.task).prepare(texts, model.processor, max_length)["input_ids"]:
            found.update(given)
    return found


def chosen(config: Config, counts: Mapping[int, int], stay: set[int], needs: Callable[[int], set[int]]) -> set[int]:
    """Choose the tokens to keep.

    Args:
        config: How many.
        counts: How often each occurs.
        stay: Those that stay in any case.
        needs: Gives the tokens that must stay with one, itself included.

    Raises:
        RecipeError: fewer are to be kept than must stay.
    """
    keep, kept = config.keep, set(stay)
    if isinstance(keep, int) and len(stay) > keep:
        raise RecipeError(
            f"keep: {keep} tokens are fewer than the {len(stay)} special tokens and single characters that must stay",
            hint=f"keep: {len(stay)} or more",
        )
    rest = [token for token in counts if token not in stay and counts[token] >= config.min_count]
    total = sum(counts.values())
    covered = sum(n for token, n in counts.items() if token in stay)
    for token in sorted(rest, key=lambda token: (-counts[token], token)):
        more = needs(token) - kept
        if isinstance(keep, int) and len(kept) + len(more) > keep:
            break
        if isinstance(keep, float) and covered >= keep * total:
            break
        kept |= more
        covered += counts[token]
    return kept


def _merged(
    model: Model, spec: tokens.Described, counts: Mapping[int, int], config: Config, context: StepContext
) -> tuple[dict[int, int], dict[int, int]]:
    """Give new ids by old ones: of the tokens that stay, and of all, others having the id of the closest of these."""
    assert isinstance(config.keep, int), "checked with the recipe"
    kind, before = spec["model"]["type"], vocabulary.size(model.module)
    if kind not in tokens.ALIASED or model.task not in READING:
        raise StepError(
            f"others: nearest can't be done for a {kind} tokenizer of a model for {model.task}", hint="others: pieces"
        )
    words = set(tokens.pieces(spec).values())
    added, unknown = set(tokens.added(spec).values()), tokens.unknown(spec)
    never = added | (set(range(before)) - words) | ({unknown} if unknown is not None else set())
    # All pieces are known to the tokenizer still: none is needed to spell others.
    stay = chosen(config, {}, tokens.stay(spec, set()) | vocabulary.named(model.module), lambda token: {token})
    places = placed(model, config.batch_size, context)
    kept = worth_keeping(places, counts, stay, never, config.keep)
    near = closest(places, sorted(words - kept), sorted(kept - never))
    ids = tokens.numbered(spec, kept, before)
    return ids, ids | {token: ids[other] for token, other in near.items()}


def _texts(corpus: list[Dataset]) -> Iterator[tuple[list[str], int]]:
    """Give the texts of the corpus, and of how many rows they are."""
    for rows in corpus:
        for start in range(0, len(rows), BATCH):
            some = rows[start : start + BATCH]
            columns = [some[role] for role in TEXTS if role in some] + [words for words in some.get(WORDS, ())]
            yield [text for column in columns for text in column], len(next(iter(some.values())))


def _spans(table: Weights, tensor: Weight) -> bool:
    """Tell, by its name and shape, whether a tensor has a row for each token."""
    outside = anatomy.block_index(table.model_type, tensor.name) is None
    return outside and tensor.shape[:1] == (table.vocabulary,) and "position" not in tensor.name
