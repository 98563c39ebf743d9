"""Metrics of generated texts, against the libraries called directly."""

import random

import numpy as np
import pytest
import sacrebleu
from rouge_score.rouge_scorer import RougeScorer

from compressit import metrics
from compressit.metrics import Evidence, Texts
from compressit.recipe import Target
from compressit.report import Outcome, bounds, verdicts
from compressit.runtimes import Facts
from tests import written

ROWS = written.pairs(40, 1)


def texts(said, references):
    wanted = [{"reference": text} for text in references]
    import datasets

    arrays = Texts.gather({"texts": said}, datasets.Dataset.from_list(wanted), None, [])
    return Texts(**arrays, examples=np.arange(len(said), dtype=np.uint64))


def evidence(said, references, original=None):
    kept = texts(said, references)
    before = kept if original is None else texts(original, references)
    return Evidence(Facts(1, 1, 1, {}), kept, before, {}, 0)


def garbled(seed, rate):
    draw, found = random.Random(seed), []
    for row in ROWS:
        words = [draw.choice([*written.WORDS]) if draw.random() < rate else w for w in row["translation"].split()]
        found.append(" ".join(words[: draw.randint(1, 9)]) + "." * draw.randint(0, 1))
    return found


REFERENCES = [row["translation"] for row in ROWS]
SAID, BEFORE = garbled(1, 0.3), garbled(2, 0.1)
ENGLISH = [row["text"] + "s running\nhouses" for row in ROWS]


def config(name, **fields):
    return metrics.load(name).Config(metric=name, **fields)


@pytest.mark.parametrize(
    ("name", "fields", "library"),
    [
        ("bleu", {}, sacrebleu.metrics.BLEU()),
        ("bleu", {"tokenize": "char", "lowercase": True}, sacrebleu.metrics.BLEU(tokenize="char", lowercase=True)),
        ("chrf", {}, sacrebleu.metrics.CHRF()),
        ("chrf", {"word_order": 2}, sacrebleu.metrics.CHRF(word_order=2)),
    ],
)
def test_figures_of_all_texts_together_are_sacrebleus(name, fields, library):
    own, module = config(name, **fields), metrics.load(name)
    found = evidence(SAID, REFERENCES)
    wanted = library.corpus_score(SAID, [REFERENCES]).score
    assert 5 < wanted < 95
    assert metrics.value(found, own) == pytest.approx(wanted)
    assert metrics.described([own]) == {name: f"sacrebleu {library.get_signature()}"}
    for seed in range(5):
        drawn = np.random.default_rng(seed).integers(0, len(SAID), len(SAID))
        some, true = ([each[place] for place in drawn] for each in (SAID, REFERENCES))
        anew = library.corpus_score(some, [true]).score
        assert module.figure(module.sums(found, own)[drawn].sum(0), own) == pytest.approx(anew)
        assert metrics.value(found.take(drawn), own) == pytest.approx(anew)


@pytest.mark.parametrize("variant", ["rouge1", "rouge2", "rougeL", "rougeLsum"])
@pytest.mark.parametrize("stemmer", [True, False])
def test_rouge_is_a_mean_over_examples(variant, stemmer):
    said = [text.replace("houses", "house") for text in ENGLISH[::-1]]
    own = config("rouge", variant=variant, stemmer=stemmer)
    library = RougeScorer([variant], use_stemmer=stemmer)
    wanted = [library.score(true, text)[variant].fmeasure for text, true in zip(said, ENGLISH, strict=True)]
    found = evidence(said, ENGLISH)
    assert metrics.load("rouge").per_example(found, own) == pytest.approx(wanted)
    assert metrics.value(found, own) == pytest.approx(np.mean(wanted))
    beside = metrics.load("rouge").details(found, own)
    assert {*beside, variant} == {"rouge1", "rouge2", "rougeL", "rougeLsum"}


def test_rouge_sees_words_of_any_script():
    """By itself rouge_score drops whatever is not of a to z, and finds nothing."""
    found = evidence(["北京是首都", "старый дом"], ["北京是中国的首都", "старый новый дом"])
    assert metrics.load("rouge").per_example(found, config("rouge", variant="rouge1")).tolist() == pytest.approx(
        [2 * 5 / 13, 2 * 2 / 5]
    )
    assert metrics.value(found, config("rouge", words="english")) == 0
    assert "any script's words" in metrics.described([config("rouge")])["rouge"]


def test_a_drop_is_judged_on_the_same_texts_drawn_again():
    found = evidence(SAID, REFERENCES, BEFORE)
    original = evidence(BEFORE, REFERENCES)
    own = config("bleu")
    drop = metrics.value(original, own) - metrics.value(found, own)
    difference, interval = bounds.difference(own, found, original)
    assert difference == pytest.approx(-drop)
    assert interval.low < difference < interval.high
    for most, wanted in ((-interval.low + 1, Outcome.PASS), (max(0.0, -interval.high - 1), Outcome.FAIL)):
        target = Target.model_validate({"metric": "bleu", "max_drop": most})
        assert verdicts.judge(target, own, "checkpoint", found, original).outcome is wanted


def test_texts_agree_where_they_are_the_same():
    found = evidence(SAID[:3] + BEFORE[3:], REFERENCES, BEFORE)
    same = [one == other for one, other in zip(SAID[:3], BEFORE[:3], strict=True)] + [True] * (len(SAID) - 3)
    assert metrics.value(found, config("agreement")) == pytest.approx(np.mean(same))


def test_empty_texts_count_as_nothing():
    found = evidence(["", "rot Haus"], ["rot Haus", "rot Haus"])
    assert metrics.value(found, config("rouge")) == pytest.approx(0.5)
    assert found.predictions.texts == ["", "rot Haus"]
    assert metrics.value(found, config("chrf")) > 0


def test_what_was_kept_is_whole_or_refused():
    from dataclasses import replace

    kept = texts(["grün", "", "ß\ud800"], ["alt", "neu", "x"])
    assert kept.unsound() == ""
    assert kept.texts == ["grün", "", "ß?"]
    assert kept.take(np.array([2, 0, 0])).texts == ["ß?", "grün", "grün"]
    assert "bytes than none" in replace(kept, lengths=np.array([9, 1, -2])).unsound()
    assert "not UTF-8" in replace(kept, lengths=np.array([3, 2, 3])).unsound()
    assert "rows" in replace(kept, written=kept.written[:-1]).unsound()
