"""Metrics of order: against scikit-learn, and against every order that ties leave open."""

import itertools
import math

import numpy as np
import pytest
from scipy.special import softmax
from sklearn.metrics import ndcg_score, roc_auc_score

from compressit import metrics
from compressit.errors import RecipeError
from compressit.metrics import Evidence, Predictions
from compressit.report import bounds, readings, tables
from compressit.runtimes import Facts


def evidence(logits, labels, groups=None):
    logits, labels = np.asarray(logits, dtype=np.float32), np.asarray(labels)
    groups = None if groups is None else np.asarray(groups)
    said = Predictions(logits, labels, np.arange(len(labels), dtype=np.uint64), groups)
    return Evidence(Facts(1, 1, 1, {}), said, said, {}, 0)


def drawn(total=400, classes=2, groups=60, seed=0, step=0.5):
    """Scores on a coarse grid, so that there are many ties, that know something of the labels."""
    draw = np.random.default_rng(seed)
    labels = draw.integers(0, classes, total)
    logits = draw.normal(size=(total, classes)) + np.eye(classes)[labels]
    return evidence(np.round(logits / step) * step, labels, draw.integers(0, groups, total))


def score(found, positive=1):
    return softmax(found.predictions.logits.astype(float), -1)[:, positive]


def measure(name, found, **fields):
    return metrics.value(found, metrics.load(name).Config(metric=name, **fields))


def test_auc_is_scikit_learns():
    two, three = drawn(), drawn(classes=3, step=1e-6)
    assert measure("auc", two) == pytest.approx(roc_auc_score(two.predictions.labels, score(two)))
    assert measure("auc", two, positive=0) == pytest.approx(measure("auc", two))
    odds = softmax(three.predictions.logits.astype(float), -1)
    wanted = roc_auc_score(three.predictions.labels, odds, multi_class="ovr")
    assert measure("auc", three) == pytest.approx(wanted)
    wanted = roc_auc_score(three.predictions.labels == 2, odds[:, 2])
    assert measure("auc", three, positive=2) == pytest.approx(wanted)
    assert math.isnan(measure("auc", evidence(np.eye(2), [1, 1])))


def test_what_a_probability_would_round_to_one_still_has_an_order():
    found = evidence([[0, 90], [0, 60], [0, 50]], [1, 0, 0], [0, 0, 0])
    assert measure("auc", found) == measure("hit", found, k=1) == 1


@pytest.mark.parametrize("k", [1, 3, 10, 1000])
@pytest.mark.parametrize("classes", [2, 3])
def test_ndcg_is_scikit_learns_group_by_group(k, classes):
    found = drawn(classes=classes)
    said = found.predictions
    expected = softmax(said.logits.astype(float), -1) @ np.arange(classes)
    wanted = []
    for group in range(60):
        here = said.groups == group
        if said.labels[here].any():
            # Alone, scikit-learn judges nothing.
            more = int(here.sum() == 1)
            truth, guess = np.append(said.labels[here], [0] * more), np.append(expected[here], [-9.0] * more)
            wanted.append(ndcg_score([truth], [guess], k=k))
    config = metrics.load("ndcg").Config(metric="ndcg", k=k)
    assert metrics.load("ndcg").per_example(found, config) == pytest.approx(wanted)
    assert metrics.value(found, config) == pytest.approx(np.mean(wanted))


def test_a_steeper_worth_of_grades():
    found = evidence([[9, 0, 0], [0, 9, 0], [0, 0, 9]], [2, 1, 0], [0, 0, 0])
    ideal, got = 3 + 1 / math.log2(3), 1 / math.log2(3) + 3 / 2
    assert measure("ndcg", found, gains="exponential") == pytest.approx(got / ideal)
    ideal, got = 2 + 1 / math.log2(3), 1 / math.log2(3) + 2 / 2
    assert measure("ndcg", found) == pytest.approx(got / ideal)


@pytest.mark.parametrize("k", [1, 2, 3, 4])
def test_ties_count_as_the_mean_over_all_their_orders(k):
    draw = np.random.default_rng(k)
    for _ in range(30):
        size = int(draw.integers(1, 6))
        scores, labels = draw.integers(0, 3, size), draw.integers(0, 2, size)
        labels[draw.integers(size)] = 1
        orders = [o for o in itertools.permutations(range(size)) if all(np.diff(scores[list(o)]) <= 0)]
        hits = [labels[list(order[:k])].any() for order in orders]
        places = 1 / np.log2(np.arange(size) + 2)
        gains = [(labels[list(order[:k])] * places[:k]).sum() for order in orders]
        ideal = (np.sort(labels)[::-1][:k] * places[:k]).sum()
        found = evidence(np.stack([0 * scores, scores], 1), labels, [0] * size)
        assert measure("hit", found, k=k) == pytest.approx(np.mean(hits))
        assert measure("ndcg", found, k=k) == pytest.approx(np.mean(gains) / ideal)


def test_neither_the_order_of_rows_nor_of_groups_matters():
    found = drawn()
    order = np.random.default_rng(5).permutation(400)
    for name in ("hit", "ndcg"):
        assert measure(name, found, k=3) == pytest.approx(measure(name, found.take(order), k=3))


def test_a_group_without_a_relevant_example_is_passed_over_and_counted():
    found = evidence([[0, 2], [0, 1], [0, 3], [0, 1]], [1, 0, 0, 0], [0, 0, 1, 1])
    for name in ("hit", "ndcg"):
        assert measure(name, found) == 1
        config = metrics.load(name).Config(metric=name)
        assert readings.reading(config, found, None).details == {"groups": 1, "passed_over": 1}
    config = metrics.load("hit").Config(metric="hit")
    original = readings.artifact("original", "torch", "cpu", found, None, [config])
    report = type("Report", (), {"original": original})
    assert tables.passed_over(report) == ["hit: 1 of 2 groups hold no relevant example and are passed over"]
    nothing = evidence([[0, 2], [0, 1]], [0, 0], [0, 0])
    assert math.isnan(measure("hit", nothing))
    assert math.isnan(measure("ndcg", nothing))


def cloned(groups=40, each=25, seed=0):
    """Groups of examples that are all alike: as much evidence as one of each."""
    draw = np.random.default_rng(seed)
    labels = draw.integers(0, 2, groups)
    logits = np.stack([np.zeros(groups), draw.normal(size=groups) + labels], 1)
    return evidence(*(np.repeat(part, each, axis=0) for part in (logits, labels, np.arange(groups))))


def width(found, name):
    _, interval = bounds.value(metrics.load(name).Config(metric=name), found)
    return interval.high - interval.low


def test_whole_groups_are_resampled():
    many, one = cloned(), cloned(each=1)
    for name in ("auc", "f1"):
        assert width(many, name) == pytest.approx(width(one, name), rel=0.05)
    apart = Evidence(many.facts, Predictions(many.predictions.logits, many.predictions.labels,
                     many.predictions.examples), many.reference, {}, 0)  # fmt: skip
    assert width(apart, "auc") < 0.4 * width(many, "auc"), "rows alone would be too sure"


def test_a_mean_over_groups_is_bounded_over_groups():
    found, other = drawn(), drawn(seed=1)
    config = metrics.load("ndcg").Config(metric="ndcg", k=3)
    value, interval = bounds.value(config, found)
    assert interval.low < value < interval.high
    same = Evidence(found.facts, found.predictions, found.predictions, {}, 0)
    assert bounds.difference(config, found, same)[1].low == 0
    noisy = Predictions(other.predictions.logits, found.predictions.labels, found.predictions.examples,
                        found.predictions.groups)  # fmt: skip
    worse = Evidence(found.facts, noisy, found.predictions, {}, 0)
    value, interval = bounds.difference(config, worse, found)
    assert interval.low < value < interval.high < 0


def test_a_label_that_the_model_has_not():
    config = metrics.load("hit").Config(metric="hit", positive=2)
    metrics.fits(config, ["text", "label", "group"], {0: "NO", 1: "YES", 2: "VERY"})
    with pytest.raises(RecipeError, match=r"positive: 2 is none of the model's labels: 0 \(NO\), 1 \(YES\)"):
        metrics.fits(config, ["text", "label", "group"], {0: "NO", 1: "YES"})
