"""Least squares after a cut, against numpy's own."""

import numpy as np
import torch

from compressit.algorithms import hessian
from compressit.algorithms import refit as refitting
from compressit.algorithms.refit import Line, refit, refit_around_zeros


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


def test_around_zeros_each_row_comes_to_the_solution_of_its_own_equations():
    w, x, _ = problem()
    x[:, 6] = 0
    pruned = w * (torch.rand(w.shape, generator=torch.Generator().manual_seed(2)) < 0.5)
    pruned[3] = 0
    pruned[4] = w[4]
    h = hessian.damped(2 / 200 * x.T @ x, 0.01)
    found = refit_around_zeros(pruned, w, h, 20)
    assert torch.equal(found == 0, pruned == 0)
    assert torch.allclose(found[4], w[4])
    for row in (0, 1, 2):
        kept = pruned[row] != 0
        best = torch.linalg.solve(h[kept][:, kept].double(), (h[kept] @ w[row]).double())
        assert torch.allclose(found[row, kept].double(), best, atol=1e-4)


def test_around_zeros_no_round_adds_error():
    w, x, _ = problem()
    h = hessian.damped(2 / 200 * x.T @ x, 0.01)
    pruned = w * (torch.rand(w.shape, generator=torch.Generator().manual_seed(2)) < 0.5)
    errors = []
    for rounds in range(6):
        off = refit_around_zeros(pruned, w, h, rounds) - w
        errors.append(float(((off @ h) * off).sum()))
    assert errors == sorted(errors, reverse=True)
    assert errors[-1] < 0.8 * errors[0]


def test_a_line_is_numpys_in_each_channel():
    draw = torch.Generator().manual_seed(1)
    x, y = torch.randn(50, 3, generator=draw) + 2, torch.randn(50, 3, generator=draw)
    x[:, 2] = 4
    line = Line(3, "cpu")
    for some in (slice(0, 20), slice(20, 50)):
        line.add(x[some], y[some])
    scale, shift = line.fit(shifted=True)
    for channel in (0, 1):
        assert np.allclose([scale[channel], shift[channel]], np.polyfit(x[:, channel], y[:, channel], 1), atol=1e-5)
    # Where x never changes nothing can be told of it: the scale stays.
    assert scale[2] == 1
    scale, shift = line.fit(shifted=False)
    assert np.allclose(scale, (x * y).sum(0) / (x * x).sum(0), atol=1e-5)
    assert not bool(shift.any())
