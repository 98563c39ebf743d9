"""Grids against brute force on small cases, and what a newcomer would expect of them."""

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
