"""Losses on vectors, against loops over pairs."""

import math

import pytest
import torch

from compressit.algorithms import similarity

DRAW = torch.Generator().manual_seed(0)


def test_ranking_is_the_sum_over_pairs_in_the_wrong_order():
    cosines, scores = torch.tensor([0.3, -0.2, 0.9, 0.5]), torch.tensor([1.0, 2.0, 2.0, 0.0])
    total = 1.0
    for i in range(4):
        for j in range(4):
            if scores[i] < scores[j]:
                total += math.exp(20 * float(cosines[i] - cosines[j]))
    assert similarity.ranking(cosines, scores).item() == pytest.approx(math.log(total), rel=1e-5)
    doubled = similarity.ranking(cosines, 10 * scores + 3)
    assert doubled.item() == pytest.approx(math.log(total), rel=1e-5), "only the order of scores counts"
    unknown = similarity.ranking(torch.cat([cosines, torch.ones(1)]), torch.cat([scores, torch.tensor([math.nan])]))
    assert unknown.item() == pytest.approx(math.log(total), rel=1e-5)
    assert similarity.ranking(cosines, torch.ones(4)).item() == 0


def test_aligned_goes_by_directions():
    one, other = torch.randn(5, 3, generator=DRAW), torch.randn(5, 3, generator=DRAW)
    by_hand = sum(1 - float(a @ b / (a.norm() * b.norm())) for a, b in zip(one, other, strict=True)) / 5
    assert similarity.aligned(7 * one, other).item() == pytest.approx(20 * by_hand, rel=1e-5)
    assert similarity.aligned(3 * one, one).item() == pytest.approx(0, abs=1e-5)


def test_alike_compares_rows_of_cosines_for_any_width():
    student, teacher = torch.randn(4, 3, generator=DRAW), torch.randn(4, 6, generator=DRAW)
    total = 0.0
    for i in range(4):
        others = [j for j in range(4) if j != i]
        own, shown = (
            torch.tensor([20 * float(torch.cosine_similarity(each[i], each[j], dim=0)) for j in others]).log_softmax(0)
            for each in (student, teacher)
        )
        total += float((shown.exp() * (shown - own)).sum()) / 4
    assert similarity.alike(student, teacher).item() == pytest.approx(total, rel=1e-4)
    turned = teacher @ torch.linalg.qr(torch.randn(6, 6, generator=DRAW)).Q
    assert similarity.alike(turned, teacher).item() == pytest.approx(0, abs=1e-4), "a rotation changes nothing"
