"""Grids against brute force on small cases, and what a newcomer would expect of them."""

import itertools
import math

import pytest
import torch

from compressit.algorithms import rounding


def weights(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def brute(values, bits, symmetric):
    """Round a list of numbers in plain Python."""
    low, high = min([*values, 0.0]), max([*values, 0.0])
    least, most = -(2 ** (bits - 1)), 2 ** (bits - 1) - 1
    if symmetric:
        scale, zero = max(-low, high) / (most + 0.5), 0
    else:
        scale = (high - low) / (most - least)
        zero = round(least - low / scale)
    return [(min(max(round(value / scale) + zero, least), most) - zero) * scale for value in values]


@pytest.mark.parametrize("bits", [4, 8])
@pytest.mark.parametrize("symmetric", [True, False])
@pytest.mark.parametrize("group_size", [None, 4])
def test_rounding_against_brute_force(bits, symmetric, group_size):
    w_OI = weights(4, 8)
    groups = rounding.grouped(w_OI, group_size)
    scale, zero = rounding.grid(groups, bits, symmetric=symmetric)
    found = rounding.rounded(groups, scale, zero, bits).flatten(-2)
    size = group_size or 8
    wanted = [
        [x for at in range(0, 8, size) for x in brute(row[at : at + size], bits, symmetric)] for row in w_OI.tolist()
    ]
    # The extreme lies midway between two levels, and may go to either.
    assert torch.allclose((found - w_OI).abs(), (torch.tensor(wanted) - w_OI).abs(), atol=1e-5)


@pytest.mark.parametrize("symmetric", [True, False])
def test_no_weight_moves_by_more_than_half_a_step(symmetric):
    groups = rounding.grouped(weights(16, 64), 16)
    scale, zero = rounding.grid(groups, 8, symmetric=symmetric)
    moved = (rounding.rounded(groups, scale, zero, 8) - groups).abs()
    # A zero point is whole, so an asymmetric grid may be half a step short at one end.
    assert bool((moved <= scale[..., None] * (0.5 if symmetric else 1.0) + 1e-6).all())


@pytest.mark.parametrize("symmetric", [True, False])
@pytest.mark.parametrize("search", [True, False])
def test_zeros_stay_zero(symmetric, search):
    w = weights(8, 32) + 0.7
    w[:, ::2] = 0
    w[3] = 0
    groups = rounding.grouped(w, 8)
    scale, zero = rounding.grid(groups, 4, symmetric=symmetric, search=search)
    found = rounding.rounded(groups, scale, zero, 4).flatten(-2)
    assert bool((found[w == 0] == 0).all())
    assert bool(torch.isfinite(found).all())


def test_the_search_of_the_clip_finds_the_least_error_there_is():
    groups = rounding.grouped(torch.distributions.StudentT(3.0).sample((6, 64)), None)
    scale, zero = rounding.grid(groups, 4, symmetric=True, search=True)
    found = rounding.error(groups, scale, zero, 4)
    for row in range(6):
        full = groups[row].abs().max().item() / 7.5
        tried = [
            rounding.error(groups[row : row + 1], torch.tensor([[full * shrink]]), torch.zeros(1, 1), 4).item()
            for shrink in rounding.SHRINKS
        ]
        assert math.isclose(found[row].item(), min(tried), rel_tol=1e-4)


def test_scales_are_rounded_to_the_type_they_are_stored_in():
    scale, _ = rounding.grid(rounding.grouped(weights(4, 16), None), 8, symmetric=True, dtype=torch.float16)
    assert torch.equal(scale, scale.half().float())


@pytest.mark.parametrize("bits", [2, 3, 4])
@pytest.mark.parametrize("symmetric", [True, False])
def test_learning_computes_what_is_stored_and_has_the_gradients_of_the_paper(bits, symmetric):
    draw = torch.Generator().manual_seed(bits)
    weights = torch.randn(4, 2, 8, generator=draw).requires_grad_()
    scale, zero = rounding.grid(weights.detach(), bits, symmetric=symmetric)
    # A narrow grid, beyond which some weights lie.
    scale = (0.5 * scale).requires_grad_()
    found = rounding.learning(weights, scale, zero, bits, torch.float32)
    assert torch.equal(found, rounding.rounded(weights.detach(), scale.detach(), zero, bits))
    slope = torch.randn(found.shape, generator=draw)
    found.backward(slope)
    lowest, highest = -(2 ** (bits - 1)), 2 ** (bits - 1) - 1
    beyond = 0
    for out, group in itertools.product(range(4), range(2)):
        wanted, by, at = 0.0, scale[out, group].item(), zero[out, group].item()
        for place in range(8):
            ratio, above = weights[out, group, place].item() / by, slope[out, group, place].item()
            ends = [end - at for end in (lowest, highest)]
            inside = ends[0] <= ratio <= ends[1]
            beyond += not inside
            wanted += above * (round(ratio) - ratio if inside else ends[ratio > ends[1]])
            assert weights.grad[out, group, place].item() == pytest.approx(above if inside else 0.0)
        assert scale.grad[out, group].item() == pytest.approx(wanted, abs=1e-4)
    assert beyond


def test_learned_scales_are_stored_in_their_type_and_stay_above_zero():
    scale = torch.tensor([[0.1, -0.3]], requires_grad=True)
    stored = rounding.held(scale, torch.bfloat16)
    assert torch.equal(stored.detach().to(torch.bfloat16).float(), stored.detach())
    assert stored.min() > 0
    read = rounding.learning(torch.full((1, 2, 1), 0.3), scale, torch.zeros(1, 2), 4, torch.bfloat16)
    assert torch.equal(read.detach().to(torch.bfloat16).float(), read.detach())
