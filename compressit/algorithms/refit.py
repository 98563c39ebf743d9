"""Let the inputs of a matrix that stay make up for those that go, by least squares."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import torch

DAMPING = 0.1
"""Share of the mean diagonal that is added: weights stay near what they were where data says little."""


def refit(w_OI: torch.Tensor, gram_II: torch.Tensor, keep_I: torch.Tensor) -> torch.Tensor:
    """Zero the inputs that go, and move the others to where the outputs change least: tr (W - V) H (W - V)'.

    With H in parts kept (K) and gone (G), V_K = W_K + W_G H_GK (H_KK + damping)^-1. Weights that are zero stay zero.

    Args:
        w_OI: float32.
        gram_II: H, the second moments of the inputs, at any scale.
        keep_I: Which stay, bool.

    Returns:
        V: (O, I), float32.
    """
    import torch

    kept, gone = keep_I.nonzero()[:, 0], (~keep_I).nonzero()[:, 0]
    inner_KK = gram_II[kept][:, kept].double()
    mean = inner_KK.diagonal().mean()
    inner_KK.diagonal().add_(DAMPING * mean if float(mean) > 0 else 1.0)
    given_KO = gram_II[kept][:, gone].double() @ w_OI[:, gone].double().T
    made_up_KO = torch.cholesky_solve(given_KO, torch.linalg.cholesky(inner_KK))
    found_OI = torch.zeros_like(w_OI)
    found_OI[:, kept] = w_OI[:, kept] + made_up_KO.T.to(w_OI.dtype)
    return found_OI.masked_fill_(w_OI == 0, 0)
