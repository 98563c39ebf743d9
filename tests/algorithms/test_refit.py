"""Least squares after a cut, against numpy's own."""

import numpy as np
import torch

from compressit.algorithms import refit as refitting
from compressit.algorithms.refit import refit


def problem():
    draw = torch.Generator().manual_seed(0)
    mixed = torch.randn(8, 8, generator=draw) + torch.eye(8)
    x = torch.randn(200, 8, generator=draw) @ mixed
    keep = torch.tensor([True, False, True, True, False, True, True, False])
    return torch.randn(5, 8, generator=draw), x, keep


def test_it_is_the_least_squares_solution(monkeypatch):
    monkeypatch.setattr(refitting, "DAMPING", 1e-9)
    w, x, keep = problem()
    found = refit(w, x.T @ x, keep)
    best = np.linalg.lstsq(x[:, keep].double().numpy(), (x @ w.T).double().numpy(), rcond=None)[0].T
    assert torch.allclose(found[:, keep].double(), torch.from_numpy(best), atol=1e-4)
    assert bool((found[:, ~keep] == 0).all())


def test_outputs_change_less_than_by_dropping_inputs_and_zeros_stay():
    w, x, keep = problem()
    w[1, 3] = w[2, 0] = 0
    found = refit(w, 2 / 200 * x.T @ x, keep)
    assert found[1, 3] == found[2, 0] == 0

    def off(changed):
        return float((x @ (changed - w).T).square().sum())

    assert off(found) < 0.7 * off(w * keep)


def test_inputs_that_are_never_on_change_nothing():
    w, _, keep = problem()
    assert torch.equal(refit(w, torch.zeros(8, 8), keep), w * keep)
