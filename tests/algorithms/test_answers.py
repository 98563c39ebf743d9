"""The best span against all spans, and the comparison of texts against the published scripts."""

import collections
import random
import re
import string

import numpy as np
import pytest

from compressit.algorithms import answers


@pytest.mark.parametrize("seed", range(40))
def test_the_best_span_is_the_best_of_all(seed):
    draw = np.random.default_rng(seed)
    size, longest = int(draw.integers(1, 9)), int(draw.integers(1, 6))
    starts, ends = draw.integers(-3, 4, (2, size)).astype(np.float32)
    spans = [(float(starts[i] + ends[j]), i - j, -i) for i in range(size) for j in range(i, min(size, i + longest))]
    score, shorter, first = max(spans)
    assert answers.best_span(starts, ends, longest) == (score, -first, -first - shorter)


def test_where_nothing_can_be_said():
    nothing = np.empty(0, dtype=np.float32)
    assert answers.best_span(nothing, nothing, 30)[0] == -np.inf


# The functions of SQuAD's evaluate-v2.0.py, to compare with.


def normalize_answer(s):
    lower = s.lower()
    bare = "".join(ch for ch in lower if ch not in set(string.punctuation))
    return " ".join(re.sub(re.compile(r"\b(a|an|the)\b", re.UNICODE), " ", bare).split())


def compute_f1(a_gold, a_pred):
    gold, pred = normalize_answer(a_gold).split(), normalize_answer(a_pred).split()
    same = sum((collections.Counter(gold) & collections.Counter(pred)).values())
    if len(gold) == 0 or len(pred) == 0:
        return int(gold == pred)
    if same == 0:
        return 0
    precision, recall = same / len(pred), same / len(gold)
    return (2 * precision * recall) / (precision + recall)


def official(said, true):
    gold = [text for text in true if normalize_answer(text)] or [""]
    exact = max(int(normalize_answer(text) == normalize_answer(said)) for text in gold)
    return exact, max(compute_f1(text, said) for text in gold)


@pytest.mark.parametrize("seed", range(60))
def test_scores_are_the_official_ones(seed):
    draw = random.Random(seed)
    words = ["the", "A", "an", "king", "King's", "old", "mill", "--", "3.5", "“so”", "thé"]

    def text():
        return draw.choice([" ", "  "]).join(draw.choices(words, k=draw.randint(0, 4)))

    for _ in range(20):
        said, true = text(), [text() for _ in range(draw.randint(0, 3))]
        assert answers.scores(said, true, characters=False) == pytest.approx(official(said, true))


def test_an_empty_answer_is_right_where_there_is_none():
    assert answers.scores("", [], characters=False) == (1, 1)
    assert answers.scores("king", [], characters=False) == (0, 0)
    assert answers.scores("", ["king"], characters=False) == (0, 0)


@pytest.mark.parametrize(
    ("said", "true", "exact", "f1"),
    [
        ("“北京市”。", "北京市", 1, 1),
        ("北京", "北京市", 0, 0.8),
        ("1998年", "1998 年", 1, 1),
        ("NBA球队", "nba 球队", 1, 1),
        ("《红楼梦》", "红楼梦", 1, 1),
        ("上海", "北京", 0, 0),
    ],
)
def test_of_chinese_characters_count(said, true, exact, f1):
    """As MLQA's script has it for zh."""
    assert answers.scores(said, [true], characters=True) == (exact, pytest.approx(f1))


@pytest.mark.parametrize(
    ("text", "unspaced"),
    [
        ("他住在北京的NBA总部。", True),
        ("He lives in 北京 now.", False),
        ("1998", False),
        ("ここはどこ", True),
        ("", False),
    ],
)
def test_the_context_says_which(text, unspaced):
    assert answers.unspaced(text) is unspaced
