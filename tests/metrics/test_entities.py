"""Figures of tagged words, against seqeval and arithmetic."""

import numpy as np
import pytest
import seqeval.metrics
import seqeval.scheme
from scipy.special import log_softmax

from compressit import metrics
from compressit.errors import RecipeError
from compressit.metrics import Evidence, Tags
from compressit.report import bounds
from compressit.runtimes import Facts

SCHEMES = {
    "IOB2": ["O", "B-PER", "I-PER", "B-LOC", "I-LOC"],
    "IOBES": ["O", *(f"{mark}-{kind}" for kind in ("PER", "LOC") for mark in "BIES")],
    "BILOU": ["O", *(f"{mark}-{kind}" for kind in ("PER", "LOC") for mark in "BILU")],
}


def evidence(names, total=60, seed=0):
    draw = np.random.default_rng(seed)
    counts = draw.integers(1, 12, total)
    words = counts.sum()
    labels = draw.integers(0, len(names), words)

    def said(sure):
        logits = draw.normal(size=(words, len(names))) + sure * np.eye(len(names))[labels]
        return Tags(logits.astype(np.float32), labels, counts, np.array(names), np.arange(total, dtype=np.uint64))

    return Evidence(Facts(1, 1, 1, {}), said(2), said(3), {}, 0)


def config(name, **fields):
    return metrics.load(name).Config(metric=name, **fields)


def both(found):
    return found.predictions.sentences(found.predictions.labels), found.predictions.sentences(found.predictions.choices)


@pytest.mark.parametrize("average", ["micro", "macro", "weighted"])
@pytest.mark.parametrize("scheme", SCHEMES)
def test_entity_f1_is_seqevals(scheme, average):
    found = evidence(SCHEMES[scheme])
    true, said = both(found)
    kind = getattr(seqeval.scheme, scheme)
    wanted = seqeval.metrics.f1_score(true, said, average=average, mode="strict", scheme=kind)
    assert 0.2 < wanted < 0.9
    assert metrics.value(found, config("entity_f1", scheme=scheme, average=average)) == pytest.approx(wanted)
    if scheme != "BILOU":
        wanted = seqeval.metrics.f1_score(true, said, average=average)
        assert metrics.value(found, config("entity_f1", average=average)) == pytest.approx(wanted)


@pytest.mark.parametrize("scheme", [None, "IOBES"])
def test_the_letters_of_another_scheme_are_understood(scheme):
    found = [
        evidence(["O", *(f"{mark}-{kind}" for kind in ("PER", "LOC") for mark in marks)])
        for marks in ("BIES", "BMES", "BILU")
    ]
    figures = [metrics.value(each, config("entity_f1", scheme=scheme)) for each in found]
    assert figures[0] == figures[1]
    spelled = evidence(["O", *(f"{mark}-{kind}" for kind in ("PER", "LOC") for mark in "BIES")])
    assert figures[0] == metrics.value(spelled, config("entity_f1", scheme=scheme))


def test_names_of_types_alone_are_entities_as_long_as_they_go_on():
    names = ["O", "PER", "LOC"]
    labels = np.array([1, 1, 0, 2, 1, 0])
    said = np.array([1, 1, 0, 2, 2, 0])
    found = Tags(np.eye(3, dtype=np.float32)[said], labels, np.array([6]), np.array(names), np.zeros(1, np.uint64))
    whole = Evidence(Facts(1, 1, 1, {}), found, found, {}, 0)
    # Of PER, LOC, PER the first is found; of the two predicted it is one.
    assert metrics.value(whole, config("entity_f1")) == pytest.approx(2 * 1 / (2 + 3))
    assert metrics.value(whole, config("accuracy")) == pytest.approx(5 / 6)


def test_closeness_goes_by_words():
    found = evidence(SCHEMES["IOB2"])
    after, before = found.predictions, found.reference
    assert metrics.value(found, config("agreement")) == pytest.approx((after.choices == before.choices).mean())
    p, q = (log_softmax(each.logits.astype(float), -1) for each in (before, after))
    assert metrics.value(found, config("kl_divergence")) == pytest.approx((np.exp(p) * (p - q)).sum(-1).mean())


def test_resampling_sums_is_resampling_what_was_said():
    found = evidence(SCHEMES["IOB2"])
    draw = np.random.default_rng(1)
    for name in ("entity_f1", "accuracy", "agreement", "kl_divergence"):
        some = bounds._on_some(metrics.load(name), config(name), found)
        for _ in range(5):
            rows = draw.integers(0, 60, 60)
            assert some(rows) == pytest.approx(metrics.value(found.take(rows), config(name))), name


def test_bounds_hold_the_figure():
    found = evidence(SCHEMES["IOB2"], total=200)
    original = Evidence(found.facts, found.reference, found.reference, {}, 0)
    for name in ("entity_f1", "accuracy"):
        value, bound = bounds.value(config(name), found)
        assert bound.low < value < bound.high
        lower, bound = bounds.difference(config(name), found, original)
        assert bound.low < lower < 0


@pytest.mark.parametrize(
    ("names", "scheme", "message"),
    [
        (["B-PER", "I-PER"], None, "needs a tag O"),
        (["O", "B-PER", "E-PER"], "IOB2", "don't follow IOB2: E-PER"),
        (["O", "PER"], "IOB2", "don't follow IOB2"),
    ],
)
def test_tags_that_hold_no_entities_are_refused_before_the_run(names, scheme, message):
    with pytest.raises(RecipeError, match=message):
        metrics.fits(config("entity_f1", scheme=scheme), ("tokens", "tags"), dict(enumerate(names)))


def test_tags_beside_those_of_a_scheme_are_outside():
    metrics.fits(config("entity_f1", scheme="IOB2"), ("tokens", "tags"), dict(enumerate(["O", "B-X", "I-X", "[CLS]"])))
    names = np.array(["O", "B-X", "I-X", "[CLS]"])
    labels, said = np.array([1, 3, 0]), np.array([1, 0, 3])
    found = Tags(np.eye(4, dtype=np.float32)[said], labels, np.array([3]), names, np.zeros(1, np.uint64))
    assert metrics.value(Evidence(Facts(1, 1, 1, {}), found, found, {}, 0), config("entity_f1")) == 1
