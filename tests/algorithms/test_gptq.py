"""GPTQ and SparseGPT against the closed form, one weight after the other, on small matrices."""

import math

import pytest
import torch

from compressit.algorithms import hessian, rounding
from compressit.algorithms.descent import descend
from compressit.algorithms.gptq import Grid, gptq, nearest
from compressit.algorithms.sparsegpt import jointly, sparsegpt


def problem(outputs=4, inputs=8, samples=64, seed=0):
    """Weights, and H of inputs that hang together."""
    draw = torch.Generator().manual_seed(seed)
    mixed = torch.randn(inputs, inputs, generator=draw) + torch.eye(inputs)
    x = torch.randn(samples, inputs, generator=draw) @ mixed
    return torch.randn(outputs, inputs, generator=draw), 2 / samples * x.T @ x, x


def damped(gram, damping=0.01):
    return gram.double() + damping * gram.diagonal().double().mean() * torch.eye(len(gram), dtype=torch.double)


def loss(off, gram):
    """Squared output error of each row."""
    return ((off @ gram) * off).sum(-1)


def closed_form(w, gram, order, decide):
    """Change weights in order; after each, solve for those that are left, by the inverse of what is left of H."""
    w, h = w.double().clone(), damped(gram)
    left = list(order)
    for place in order:
        inverse = torch.linalg.inv(h[left][:, left])
        new = decide(place, w, inverse[0, 0])
        step = (w[:, place] - new)[:, None] / inverse[0, 0] * inverse[0][None]
        w[:, left] -= step
        w[:, place] = new
        left.pop(0)
    return w


def test_the_factor_is_that_of_the_inverse():
    _, gram, _ = problem()
    upper, damping = hessian.factor(gram, 0.01)
    assert damping == 0.01
    assert torch.allclose(upper, upper.triu())
    assert torch.allclose((upper.T @ upper).double(), torch.linalg.inv(damped(gram)), rtol=1e-3, atol=1e-5)


def test_a_hessian_that_can_not_be_factored_gets_more_damping_and_says_so():
    gram = torch.ones(4, 4) - 1.5 * torch.eye(4)
    gram.diagonal().fill_(0.1)
    upper, damping = hessian.factor(gram, 0.01)
    assert damping > 0.01
    assert bool(torch.isfinite(upper).all())


@pytest.mark.parametrize("symmetric", [True, False])
@pytest.mark.parametrize("ordered", [True, False])
def test_gptq_is_the_closed_form(symmetric, ordered):
    w, gram, _ = problem(outputs=5, inputs=40)
    grid = Grid(bits=3, group_size=None, symmetric=symmetric, search=False, dtype=torch.float32)
    order = torch.argsort(gram.diagonal(), descending=True) if ordered else None
    places = order.tolist() if ordered else list(range(40))
    plain = nearest(w, grid)
    upper, _ = hessian.factor(gram if order is None else gram[order][:, order], 0.01)

    def decide(place, now, _):
        scale, zero = plain.scale_OG.double(), plain.zero_OG.double()
        whole = rounding.whole(now[:, place][:, None, None], scale, zero, 3)
        return ((whole[:, :, 0] - zero) * scale)[:, 0]

    wanted = closed_form(w, gram, places, decide).float()
    found = gptq(w, gram, upper, order, grid).weight_OI
    better = loss(wanted - w, gram) < loss(plain.weight_OI - w, gram)
    assert bool(better.any())
    assert torch.allclose(found[better], wanted[better], atol=1e-4)
    assert torch.equal(found[~better], plain.weight_OI[~better])


def test_grids_found_on_the_way_are_fitted_to_weights_that_have_made_up_for_the_groups_before():
    w, gram, _ = problem(outputs=4, inputs=16)
    grid = Grid(bits=3, group_size=8, symmetric=True, search=False, dtype=torch.float32)
    upper, _ = hessian.factor(gram, 0.01)
    found = gptq(w, gram, upper, None, grid)
    scales = {}

    def decide(place, now, _):
        if place % 8 == 0:
            scales[place // 8] = rounding.grid(now[:, None, place : place + 8], 3, symmetric=True)[0]
        scale = scales[place // 8]
        return (rounding.whole(now[:, place][:, None, None], scale, torch.zeros_like(scale), 3)[:, :, 0] * scale)[:, 0]

    wanted = closed_form(w, gram, list(range(16)), decide).float()
    better = loss(wanted - w, gram) < loss(nearest(w, grid).weight_OI - w, gram)
    assert bool(better.any())
    assert torch.allclose(found.weight_OI[better], wanted[better], atol=1e-4)


@pytest.mark.parametrize("bits", [2, 3, 4, 8])
@pytest.mark.parametrize("group_size", [None, 16])
@pytest.mark.parametrize("search", [True, False])
def test_gptq_is_never_worse_than_rounding_and_keeps_zeros(bits, group_size, search):
    w, gram, x = problem(outputs=24, inputs=64, samples=256)
    w[torch.rand(w.shape, generator=torch.Generator().manual_seed(1)) < 0.5] = 0
    grid = Grid(bits=bits, group_size=group_size, symmetric=False, search=search, dtype=torch.float32)
    upper, _ = hessian.factor(gram, 0.01)
    plain = (x @ (nearest(w, grid, gram.diagonal()).weight_OI - w).T).square().sum(0)
    for order in (None, torch.argsort(gram.diagonal(), descending=True)):
        mixed = upper if order is None else hessian.factor(gram[order][:, order], 0.01)[0]
        found = gptq(w, gram, mixed, order, grid)
        assert bool((found.weight_OI[w == 0] == 0).all())
        error = (x @ (found.weight_OI - w).T).square().sum(0)
        assert bool((error <= plain * 1.001).all())
        assert float(error.sum()) < 0.95 * float(plain.sum())
        assert -(2 ** (bits - 1)) <= float(found.whole_OI.min()) <= float(found.whole_OI.max()) < 2 ** (bits - 1)


def test_sparsegpt_is_the_closed_form():
    w, gram, _ = problem(outputs=4, inputs=32)
    upper, _ = hessian.factor(gram, 0.01)
    chosen = {}

    def decide(place, now, _):
        if place % 4 == 0:
            left = list(range(place, 32))
            inverse = torch.linalg.inv(damped(gram)[left][:, left])
            prices = []
            for offset in range(4):
                prices.append(now[:, place + offset] ** 2 / upper[place + offset, place + offset].double() ** 2)
            assert math.isclose(float(inverse[0, 0]), float(upper[place, place]) ** 2, rel_tol=1e-3)
            keep = torch.stack(prices, 1).topk(2, dim=1).indices
            mask = torch.ones(4, 4, dtype=torch.bool).scatter_(1, keep, False)
            chosen.update({place + offset: mask[:, offset] for offset in range(4)})
        return now[:, place].masked_fill(chosen[place], 0)

    wanted = closed_form(w, gram, list(range(32)), decide).float()
    found = sparsegpt(w, upper, kept=(2, 4))
    assert torch.allclose(found, wanted, atol=1e-4)
    assert bool((found.unflatten(1, (-1, 4)) == 0).sum(-1).eq(2).all())


@pytest.mark.parametrize("kept", [None, (2, 4), (1, 3), (4, 8)])
def test_sparsegpt_loses_less_than_zeroing_the_same_weights(kept):
    w, gram, x = problem(outputs=24, inputs=192, samples=512)
    upper, _ = hessian.factor(gram, 0.01)
    found = sparsegpt(w, upper, share=0.5, kept=kept)
    share = 0.5 if kept is None else 1 - kept[0] / kept[1]
    assert math.isclose(float((found == 0).float().mean()), share, abs_tol=0.005)
    left = (x @ (found - w).T).square().sum()
    assert float(left) < 0.7 * float((x @ (w.masked_fill(found == 0, 0) - w).T).square().sum())


@pytest.mark.parametrize("kept", [None, (2, 4)])
@pytest.mark.parametrize("group_size", [None, 24, 64])
def test_both_at_once_prune_and_round(kept, group_size):
    w, gram, x = problem(outputs=24, inputs=192, samples=512)
    w[:, :4] = 0
    grid = Grid(bits=4, group_size=group_size, symmetric=True, search=True, dtype=torch.float32)
    upper, _ = hessian.factor(gram, 0.01)
    found = jointly(w, gram, upper, grid, share=0.5, kept=kept)
    weight = found.weight_OI
    assert float((weight == 0).float().mean()) >= 0.5
    assert bool((weight[:, :4] == 0).all())
    if kept:
        assert bool((weight.unflatten(1, (-1, 4)) == 0).sum(-1).ge(2).all())
    pruned = sparsegpt(w, upper, share=0.5, kept=kept)
    apart = nearest(pruned, grid, gram.diagonal()).weight_OI
    assert float((x @ (weight - w).T).square().sum()) < float((x @ (apart - w).T).square().sum())


def test_the_docstrings_example():
    gram = torch.tensor([[1.0, 0.9], [0.9, 1.0]])
    upper, _ = hessian.factor(gram, 1e-4)
    w = torch.tensor([[0.4, 0.4]])

    class Whole:
        def block(self, start, rows):
            pass

        def decide(self, index, row):
            return row.round()

    from compressit.algorithms.sweep import sweep

    turned = w.T.contiguous()
    sweep(turned, upper, Whole())
    assert turned.T.tolist() == [[0.0, 1.0]]


def test_each_pass_of_descent_lowers_the_error_until_no_weight_can_do_better_alone():
    w, gram, _ = problem(outputs=6, inputs=40)
    w[:, ::5] = 0
    grid = Grid(bits=2, group_size=8, symmetric=False, search=False, dtype=torch.float32)
    h = hessian.damped(gram, 0.01)
    begun = gptq(w, gram, hessian.factor(gram, 0.01)[0], None, grid)
    found, last = begun, loss(begun.weight_OI - w, h)
    for _ in range(3):
        found = descend(found, w, h, 2, 1)
        now = loss(found.weight_OI - w, h)
        assert bool((now <= last * 1.0001).all())
        last = now
    assert float(last.sum()) < 0.9 * float(loss(begun.weight_OI - w, h).sum())
    assert bool((found.weight_OI[w == 0] == 0).all())
    settled = descend(found, w, h, 2, 50)
    least = loss(settled.weight_OI - w, h)
    for place in (place for place in range(40) if place % 5):
        for whole in (-2, -1, 0, 1):
            other = settled.weight_OI.clone()
            group = place // 8
            other[:, place] = (whole - settled.zero_OG[:, group]) * settled.scale_OG[:, group]
            assert bool((loss(other - w, h) >= least * 0.9999).all())
