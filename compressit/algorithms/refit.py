"""Let what stays make up for what goes, by least squares: inputs of a matrix, scales and shifts of a norm."""

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


def refit_around_zeros(pruned_OI: torch.Tensor, w_OI: torch.Tensor, gram_II: torch.Tensor, rounds: int) -> torch.Tensor:
    """Move all weights that are not zero at once to where the outputs change least: tr (V - W) H (V - W)'.

    A sweep such as SparseGPT's lets only later inputs make up for a weight that goes. Given which weights are zero, the
    best values of a row's others solve linear equations of its own; conjugate gradients solve those of all rows
    together, with one product each round, and never end with more error than they began with. (Boza 2024,
    arXiv:2401.02938, takes ADMM for the same equations.)

    Args:
        pruned_OI: Where to begin; what is zero there stays zero. float32.
        w_OI: The matrix as it was, W.
        gram_II: H, damped: see `hessian.damped`.
        rounds: Of conjugate gradients.

    Returns:
        V: (O, I).
    """
    kept_OI = pruned_OI != 0
    found_OI = pruned_OI.clone()
    # Half the gradient downhill; each input counts by its own curvature.
    down_OI = ((w_OI - found_OI) @ gram_II).mul_(kept_OI)
    toward_OI = down_OI / gram_II.diagonal()
    scale_O1 = (down_OI * toward_OI).sum(1, keepdim=True)
    for _ in range(rounds):
        bent_OI = (toward_OI @ gram_II).mul_(kept_OI)
        step_O1 = _ratio(scale_O1, (toward_OI * bent_OI).sum(1, keepdim=True))
        found_OI.addcmul_(toward_OI, step_O1)
        down_OI.addcmul_(bent_OI, step_O1, value=-1)
        eased_OI = down_OI / gram_II.diagonal()
        before_O1, scale_O1 = scale_O1, (down_OI * eased_OI).sum(1, keepdim=True)
        toward_OI = toward_OI.mul_(_ratio(scale_O1, before_O1)).add_(eased_OI)
    return found_OI


def _ratio(above_O1: torch.Tensor, below_O1: torch.Tensor) -> torch.Tensor:
    """Divide; 0 where nothing is left to gain."""
    import torch

    return torch.where(below_O1 > 0, above_O1 / below_O1.clamp_min(torch.finfo(below_O1.dtype).tiny), 0.0)


class Line:
    """Finds, channel by channel, the scale a and shift b for which a * x + b is nearest to y."""

    def __init__(self, channels: int, device: str) -> None:
        import torch

        self.count = 0
        self.sums_4C = torch.zeros(4, channels, dtype=torch.float64, device=device)

    def add(self, x_NC: torch.Tensor, y_NC: torch.Tensor) -> None:
        """Take more rows in."""
        import torch

        x_NC, y_NC = x_NC.double(), y_NC.double()
        self.count += len(x_NC)
        self.sums_4C += torch.stack([x_NC.sum(0), y_NC.sum(0), (x_NC * x_NC).sum(0), (x_NC * y_NC).sum(0)])

    def fit(self, *, shifted: bool) -> tuple[torch.Tensor, torch.Tensor]:
        """Give a and b: (C,), (C,). Where x never changes a is 1; without `shifted` b is 0."""
        import torch

        x_C, y_C, xx_C, xy_C = self.sums_4C / max(1, self.count)
        spread_C, shared_C = (xx_C - x_C * x_C, xy_C - x_C * y_C) if shifted else (xx_C, xy_C)
        known_C = spread_C > 1e-12
        scale_C = torch.where(known_C, shared_C / torch.where(known_C, spread_C, 1.0), 1.0)
        return scale_C, (y_C - scale_C * x_C if shifted else torch.zeros_like(scale_C))
