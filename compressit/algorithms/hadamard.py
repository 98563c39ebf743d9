"""Rotations that spread what lies in a few channels over all: Hadamard matrices, of as many sizes as are easily built.

A Hadamard matrix has entries of 1 and -1 alone and orthogonal rows, so that each channel of x H / sqrt(n) is a sum of
all channels, with signs: where one of 256 was 16 and the others nothing, all are 1 then. Sylvester's double one of half
the size; Paley's take squares modulo a prime (1933, Journal of Mathematics and Physics 12).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import torch


def rotation(n: int, seed: int) -> torch.Tensor:
    """Give an orthogonal matrix, (n, n) in float64: Hadamard's with rows of random signs, divided by the root of n.

    Where no such matrix is known here, n is a power of two times an odd number: the Kronecker product of Hadamard's and
    a random rotation of that many.
    """
    import torch

    draw = torch.Generator().manual_seed(seed)
    odd = 1 if hadamard(n) is not None else n // (n & -n)
    found = hadamard(n // odd)
    assert found is not None, "a power of two always has one"
    turn_NN = found.double() / (n // odd) ** 0.5
    if odd > 1:
        q, r = torch.linalg.qr(torch.randn(odd, odd, dtype=torch.float64, generator=draw))
        turn_NN = torch.kron(turn_NN, (q * r.diagonal().sign()).contiguous())
    signs_N = torch.randint(0, 2, (n,), generator=draw).double() * 2 - 1
    return signs_N[:, None] * turn_NN


def hadamard(n: int) -> torch.Tensor | None:
    """Build a Hadamard matrix, (n, n); None where neither way leads to one of this size."""
    import torch

    found = torch.ones(1, 1) if n == 1 else _paley(n)
    if found is not None or n % 2:
        return found
    half = hadamard(n // 2)
    return None if half is None else torch.kron(torch.tensor([[1.0, 1.0], [1.0, -1.0]]), half)


def _paley(n: int) -> torch.Tensor | None:
    """Build one by the squares modulo a prime, n - 1 or n / 2 - 1."""
    import torch

    if _is_prime(n - 1) and (n - 1) % 4 == 3:
        skew = torch.zeros(n, n)
        skew[0, 1:], skew[1:, 0], skew[1:, 1:] = 1, -1, _squares(n - 1)
        return skew + torch.eye(n)
    if n % 4 == 0 and _is_prime(n // 2 - 1) and (n // 2 - 1) % 4 == 1:
        core = torch.zeros(n // 2, n // 2)
        core[0, 1:], core[1:, 0], core[1:, 1:] = 1, 1, _squares(n // 2 - 1)
        plus, minus = torch.tensor([[1.0, 1.0], [1.0, -1.0]]), torch.tensor([[1.0, -1.0], [-1.0, -1.0]])
        return torch.kron(core, plus) + torch.kron(torch.eye(n // 2), minus)
    return None


def _squares(prime: int) -> torch.Tensor:
    """Say of each difference modulo a prime whether it is a square, 1, none, -1, or zero: (p, p)."""
    import torch

    kind = torch.full((prime,), -1.0)
    kind[[value * value % prime for value in range(1, prime)]] = 1
    kind[0] = 0
    places = torch.arange(prime)
    return kind[(places[None] - places[:, None]) % prime]


def _is_prime(n: int) -> bool:
    return n > 1 and all(n % divisor for divisor in range(2, int(n**0.5) + 1))
