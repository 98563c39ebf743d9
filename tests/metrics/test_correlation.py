"""Correlations of similarities with scores, against scipy."""

import math

import numpy as np
import pytest
from scipy import stats

from compressit import metrics
from compressit.metrics import Evidence, Pairs
from compressit.report import bounds
from compressit.runtimes import Facts


def evidence(noise=0.5, total=200, seed=0):
    draw = np.random.default_rng(seed)
    scores = draw.integers(0, 6, total).astype(float)
    said = [
        Pairs(np.tanh(scores / 3 + more * draw.normal(size=total)), scores, np.arange(total, dtype=np.uint64))
        for more in (noise, 0.3)
    ]
    return Evidence(Facts(1, 1, 1, {}), said[0], said[1], {}, 0)


def config(name):
    return metrics.load(name).Config(metric=name)


@pytest.mark.parametrize(("name", "function"), [("spearman", stats.spearmanr), ("pearson", stats.pearsonr)])
def test_they_are_scipys(name, function):
    found = evidence()
    wanted = function(found.predictions.cosines, found.predictions.scores).statistic
    assert metrics.value(found, config(name)) == pytest.approx(wanted)
    value, bound = bounds.value(config(name), found)
    assert bound.low < value < bound.high
    original = Evidence(found.facts, found.reference, found.reference, {}, 0)
    drop, bound = bounds.difference(config(name), found, original)
    assert bound.low < drop < bound.high < 0


@pytest.mark.parametrize("name", ["spearman", "pearson"])
def test_what_never_changes_has_no_order(name):
    found = evidence()
    flat = Pairs(np.full(200, 0.5), found.predictions.scores, found.predictions.examples)
    broken = Pairs(np.where(np.arange(200) == 3, np.nan, 0.1 * np.arange(200)), flat.scores, flat.examples)
    for said in (flat, broken):
        assert math.isnan(metrics.value(Evidence(found.facts, said, found.reference, {}, 0), config(name)))


def test_cosines_are_of_neighbours():
    vectors = np.random.default_rng(1).normal(size=(6, 4)).astype(np.float32)
    vectors[4] = 0
    found = Pairs.reduce(vectors, np.array([1.0, 2.0, 3.0]), None)
    a, b = vectors[0], vectors[1]
    assert found["cosines"][0] == pytest.approx(a @ b / np.linalg.norm(a) / np.linalg.norm(b))
    assert found["cosines"][2] == 0
    assert found["scores"].tolist() == [1, 2, 3]
