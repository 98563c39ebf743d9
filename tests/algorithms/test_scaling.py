"""Scales of channels against their formulas, weight by weight, and errors against outputs that are computed."""

import math

import torch

from compressit.algorithms import rounding, scaling
from compressit.algorithms.gptq import Grid, nearest, nearest_output


def drawn(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def test_smoothing_divides_the_difficulty():
    x, w = drawn(16, 4).abs() + 0.1, drawn(3, 4, seed=1)
    found = scaling.smoothing(x.amax(0), w.abs().amax(0), 0.3)
    for channel in range(4):
        most, heaviest = max(x[:, channel].tolist()), max(w[:, channel].abs().tolist())
        assert math.isclose(float(found[channel]), most**0.3 / heaviest**0.7, rel_tol=1e-5)


def test_half_and_half_leaves_inputs_and_weights_of_one_size():
    x, w = torch.tensor([8.0, 1.0]), torch.tensor([1.0, 1.0])
    scale = scaling.smoothing(x, w, 0.5)
    assert torch.allclose(x / scale, w * scale)


def test_a_channel_that_is_zero_on_one_side_is_left_alone():
    assert scaling.smoothing(torch.tensor([0.0, 4.0, 4.0]), torch.tensor([1.0, 0.0, 4.0]), 0.5).tolist() == [1, 1, 1]
    for tried in scaling.candidates(torch.tensor([0.0, 4.0, 9.0]), torch.tensor([1.0, 1.0, 0.0]), 4):
        assert bool((torch.isfinite(tried) & (tried > 0)).all())


def test_the_first_that_is_tried_changes_nothing_and_the_others_are_powers():
    x, w = torch.tensor([0.5, 2.0, 8.0]), torch.tensor([1.0, 0.5, 0.25])
    ones, *others = scaling.candidates(x, w, 4)
    assert ones.tolist() == [1, 1, 1]
    wanted = [1 / w]
    for ratio in (0.25, 0.5, 0.75, 1.0):
        wanted += [x**ratio, x**ratio / w ** (1 - ratio)]
    for found, plain in zip(others, wanted, strict=True):
        assert torch.allclose(found, plain / math.sqrt(float(plain.max() * plain.min())), rtol=1e-5)


def test_the_error_is_that_of_the_outputs():
    x, w, scale = drawn(64, 8), drawn(4, 8, seed=1), drawn(8, seed=2).exp()
    grid = Grid(3, 4, True, False, torch.float32)

    def rounded(scaled, seen):
        assert torch.allclose(seen, (x / scale).square().sum(0), rtol=1e-4)
        return nearest(scaled, grid).weight_OI

    error = scaling.output_error(w, x.T @ x, scale, rounded)
    said = (x / scale) @ nearest(w * scale, grid).weight_OI.T
    assert math.isclose(error, float((said - x @ w.T).square().sum()), rel_tol=1e-4)


def test_the_search_finds_the_least_and_nothing_where_nothing_is_gained():
    tried = [torch.tensor([1.0]), torch.tensor([3.0]), torch.tensor([2.0])]
    assert scaling.searched(tried, lambda scale: abs(float(scale) - 2)) == (tried[2], 0, 1)
    assert scaling.searched(tried, lambda scale: 5.0)[0] is tried[0]


def test_a_range_is_the_one_that_leaves_least_in_what_its_group_gives():
    x, w = drawn(64, 8) @ (drawn(8, 8, seed=3) + torch.eye(8)), drawn(4, 8, seed=1)
    grid = Grid(3, 4, True, True, torch.float32)
    found = nearest_output(w, grid, x.T @ x)
    for output in range(4):
        for start in (0, 4):
            own, seen = w[output, start : start + 4], x[:, start : start + 4]

            def lost(read, seen=seen, own=own):
                return float((seen @ (read - own)).square().sum())

            tried = []
            for shrink in rounding.SHRINKS:
                scale = own.abs().max() * shrink / 3.5
                tried.append(lost((own / scale).round().clamp(-4, 3) * scale))
            assert math.isclose(lost(found.weight_OI[output, start : start + 4]), min(tried), rel_tol=1e-3)
