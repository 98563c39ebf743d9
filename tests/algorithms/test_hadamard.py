"""Hadamard matrices and the rotations made of them."""

import pytest
import torch

from compressit.algorithms.hadamard import hadamard, rotation


@pytest.mark.parametrize("n", [1, 2, 4, 8, 12, 16, 20, 24, 28, 36, 40, 44, 64, 96, 128, 256, 576, 896])
def test_rows_of_ones_and_minus_ones_are_orthogonal(n):
    found = hadamard(n)
    assert torch.equal(found.abs(), torch.ones(n, n))
    assert torch.equal(found @ found.T, n * torch.eye(n))


@pytest.mark.parametrize("n", [3, 6, 7, 92, 172])
def test_sizes_of_which_none_is_known_here(n):
    assert hadamard(n) is None


@pytest.mark.parametrize("n", [6, 7, 12, 64, 172])
def test_rotations_keep_lengths_and_hang_on_the_seed(n):
    found = rotation(n, 0)
    assert torch.allclose(found @ found.T, torch.eye(n, dtype=torch.float64), atol=1e-12)
    assert torch.equal(found, rotation(n, 0))
    assert not torch.equal(found, rotation(n, 1))
    if n % 4 == 0:
        # One channel that stands out comes to lie in many.
        alone = torch.zeros(n, dtype=torch.float64)
        alone[0] = n**0.5
        assert float((alone @ found).abs().max()) < n**0.5 * 0.6
