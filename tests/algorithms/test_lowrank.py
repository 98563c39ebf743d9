"""Low rank: the best product for the outputs, held against other products and against numpy."""

import numpy as np
import pytest
import torch

from compressit.algorithms.lowrank import rank_of_share, size, spectrum
from compressit.errors import StepError


@pytest.fixture
def case():
    torch.manual_seed(0)
    weight_OI = torch.randn(6, 5)
    inputs_IT = torch.randn(5, 40) * torch.tensor([5.0, 1.0, 0.2, 1.0, 3.0])[:, None]
    return weight_OI, inputs_IT, inputs_IT @ inputs_IT.T


def moved(weight_OI, factors, inputs_IT):
    return float(((factors.product_OI - weight_OI) @ inputs_IT).norm() / (weight_OI @ inputs_IT).norm())


def test_no_product_of_the_rank_is_nearer_for_these_inputs(case):
    weight_OI, inputs_IT, gram_II = case
    for rank in (1, 2, 3):
        found = spectrum(weight_OI, gram_II, 1e-12)
        best = moved(weight_OI, found.factors(rank), inputs_IT)
        # The outputs' own best approximation can't be beaten by any product at all.
        s = np.linalg.svd((weight_OI @ inputs_IT).double().numpy(), compute_uv=False)
        assert best == pytest.approx(float(np.sqrt((s[rank:] ** 2).sum() / (s**2).sum())), rel=1e-4)
        assert best == pytest.approx(found.lost(rank), rel=1e-4)
        assert best < moved(weight_OI, spectrum(weight_OI, None, 0).factors(rank), inputs_IT)


def test_plain_is_the_best_for_the_weights(case):
    weight_OI, _, gram_II = case
    plain, white = (spectrum(weight_OI, gram, 1e-12).factors(2) for gram in (None, gram_II))
    assert float((plain.product_OI - weight_OI).norm()) < float((white.product_OI - weight_OI).norm())


def test_rows_of_its_own_and_sums_of_them_are_the_product_of_the_rank():
    torch.manual_seed(0)
    for outputs, inputs in ((40, 24), (24, 40)):
        weight_OI = torch.randn(outputs, inputs)
        u, s, v = torch.linalg.svd(weight_OI.double(), full_matrices=False)
        for rank in (1, 7, 23):
            found = spectrum(weight_OI, None, 0).factors(rank)
            best_OI = (u[:, :rank] * s[:rank]) @ v[:rank]
            assert torch.allclose(found.product_OI.double(), best_OI, atol=1e-5)
            kept = found.order_O < rank
            assert torch.allclose(found.reduce_RI[found.order_O[kept]].double(), best_OI[kept], atol=1e-5)
            assert found.reduce_RI.numel() + found.expand_PR.numel() == size(outputs, inputs, rank)
            assert float(found.expand_PR.abs().max()) < 10, "what is made of others is not made of their differences"


def test_at_full_rank_nothing_is_lost(case):
    weight_OI, inputs_IT, gram_II = case
    assert moved(weight_OI, spectrum(weight_OI, gram_II, 1e-12).factors(5), inputs_IT) < 1e-5


def test_the_rank_of_an_error_is_the_least_that_keeps_it(case):
    weight_OI, _, gram_II = case
    found = spectrum(weight_OI, gram_II, 1e-12)
    for error in (0.9, 0.5, 0.1, 1e-6):
        rank = found.rank(error)
        assert found.lost(rank) <= error
        assert rank == 1 or found.lost(rank - 1) > error


def test_inputs_that_are_always_zero_and_those_that_hang_together_are_taken(case):
    weight_OI, inputs_IT, _ = case
    inputs_IT[0], inputs_IT[3] = 0, 2 * inputs_IT[4]
    found = spectrum(weight_OI, inputs_IT @ inputs_IT.T, 1e-6)
    assert moved(weight_OI, found.factors(3), inputs_IT) < 1e-3


def test_sizes():
    for outputs, inputs, share in ((100, 50, 0.6), (64, 64, 0.8), (8, 300, 0.999), (30, 20, 0.3)):
        rank = rank_of_share(outputs, inputs, share)
        assert size(outputs, inputs, rank) <= share * outputs * inputs < size(outputs, inputs, rank + 1)
    assert rank_of_share(4, 4, 0.01) == 1


def test_what_is_not_finite_is_refused(case):
    weight_OI, _, gram_II = case
    with pytest.raises(StepError, match="inputs of a layer are not finite"):
        spectrum(weight_OI, gram_II * torch.nan, 1e-4)
    with pytest.raises(StepError, match="weights of a layer are not finite"):
        spectrum(weight_OI * torch.inf, gram_II, 1e-4)
