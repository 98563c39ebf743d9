"""The Hessian of a layer's squared output error, and the factor of it that GPTQ and SparseGPT use."""

from __future__ import annotations

from typing import TYPE_CHECKING

from compressit.errors import StepError

if TYPE_CHECKING:
    import torch

RAISE = 10.0
MOST = 1e4
"""How much the damping is raised at each failure, and the share of the mean diagonal at which that ends."""


def factor(gram_II: torch.Tensor, damping: float) -> tuple[torch.Tensor, float]:
    """Factor the inverse of the damped Hessian: the upper U with U'U = (H + damping * mean(diag H))^-1.

    GPTQ takes two Cholesky factorizations and an inverse for it. H with rows and columns in reverse order has the lower
    factor L; read backwards again it is upper, and its inverse is U: one factorization, and better conditioned.

    Args:
        gram_II: H, symmetric, float32.
        damping: Share of the mean diagonal to add; raised step by step where the factorization fails.

    Returns:
        U, and the damping that it took.

    Raises:
        StepError: H is not finite.
    """
    import torch

    if not bool(torch.isfinite(gram_II).all()):
        raise StepError("the inputs of a layer are not finite")
    while damping <= MOST:
        lower_II, failed = torch.linalg.cholesky_ex(damped(gram_II, damping).flip(0, 1))
        if not int(failed) and bool(torch.isfinite(lower_II).all()):
            root_II = lower_II.flip(0, 1)
            identity_II = torch.eye(len(root_II), dtype=root_II.dtype, device=root_II.device)
            return torch.linalg.solve_triangular(root_II, identity_II, upper=True), damping
        damping = max(damping, 1e-4) * RAISE
    raise StepError("the Hessian of a layer can't be factored at any damping")


def damped(gram_II: torch.Tensor, damping: float) -> torch.Tensor:
    """Add a share of the mean diagonal to the diagonal: (I, I).

    An input that is always zero asks nothing of its weights, and is given the mean; it is left to rounding.
    """
    import torch

    diagonal_I = gram_II.diagonal()
    mean = float(diagonal_I[diagonal_I > 0].mean()) if bool((diagonal_I > 0).any()) else 1.0
    damped_II = gram_II.clone()
    damped_II.diagonal().add_(torch.where(diagonal_I > 0, 0.0, mean) + damping * mean)
    return damped_II


def less(one_OI: torch.Tensor, other_OI: torch.Tensor, gram_II: torch.Tensor) -> torch.Tensor:
    """Tell which of two changes a and b to a matrix costs less output error, row by row: aHa < bHb, (O,).

    One product tells: aHa - bHb = (a - b)H(a + b).
    """
    return ((one_OI - other_OI) @ gram_II).mul_(one_OI + other_OI).sum(-1) < 0
