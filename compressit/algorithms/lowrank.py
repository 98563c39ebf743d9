"""The product of two thin matrices that gives nearest to what a matrix gave, of the inputs that it really sees."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from compressit.errors import StepError

if TYPE_CHECKING:
    import torch

RAISE, MOST = 10.0, 1e4
"""How much the damping is raised where H can't be factored, and where that ends."""


@dataclass(frozen=True)
class Spectrum:
    """A matrix in the coordinates of its inputs: W L = U S V', with H = L L'.

    Attributes:
        left_OK: U.
        values_K: S, falling; their squares are what each rank adds to the energy of the outputs.
        right_KI: V' L^-1.
    """

    left_OK: torch.Tensor
    values_K: torch.Tensor
    right_KI: torch.Tensor

    def lost(self, rank: int) -> float:
        """Give the relative error of the outputs at a rank: Frobenius norm of the difference over that of W X."""
        energy_K = self.values_K.square()
        return float((energy_K[rank:].sum() / energy_K.sum().clamp_min(1e-300)).sqrt())

    def rank(self, error: float) -> int:
        """Give the least rank whose relative error is no larger."""
        energy_K = self.values_K.square()
        # What is left after each rank, 0 included.
        left = energy_K.sum() - energy_K.cumsum(0)
        return 1 + int((left[:-1] > error**2 * energy_K.sum()).sum())

    def factors(self, rank: int) -> tuple[torch.Tensor, torch.Tensor]:
        """Give the two matrices, (R, I) and (O, R) in float32; both have a like share of the size."""
        root_R = self.values_K[:rank].sqrt()
        reduce_RI = root_R[:, None] * self.right_KI[:rank]
        return reduce_RI.float().contiguous(), (self.left_OK[:, :rank] * root_R).float().contiguous()


def spectrum(weight_OI: torch.Tensor, gram_II: torch.Tensor | None, damping: float) -> Spectrum:
    """Decompose a matrix by how its inputs weigh it; without these, as it is.

    The first R terms are the best product of rank R for the squared error of the outputs, tr((W - W')H(W - W')'): the
    whitening of SVD-LLM (Wang et al. 2024, arXiv:2403.07378).

    Args:
        weight_OI: W.
        gram_II: H = X X' of the inputs; None for a plain singular value decomposition.
        damping: Share of H's mean diagonal to add; raised where H can't be factored.

    Raises:
        StepError: something isn't finite.
    """
    import torch

    weight_OI = weight_OI.double()
    if not bool(torch.isfinite(weight_OI).all()):
        raise StepError("the weights of a layer are not finite")
    if gram_II is None:
        left_OK, values_K, right_KI = torch.linalg.svd(weight_OI, full_matrices=False)
        return Spectrum(left_OK, values_K, right_KI)
    root_II = _root(gram_II.double(), damping)
    left_OK, values_K, right_KI = torch.linalg.svd(weight_OI @ root_II, full_matrices=False)
    # V' L^-1, by solving X L = V'.
    return Spectrum(left_OK, values_K, torch.linalg.solve_triangular(root_II, right_KI, upper=False, left=False))


def pays(outputs: int, inputs: int, rank: int) -> bool:
    """Tell whether two matrices of a rank are smaller than the one."""
    return rank * (outputs + inputs) < outputs * inputs


def rank_of_share(outputs: int, inputs: int, share: float) -> int:
    """Give the rank at which two matrices have a share of the elements of the one, 1 at least."""
    return max(1, int(share * outputs * inputs / (outputs + inputs)))


def _root(gram_II: torch.Tensor, damping: float) -> torch.Tensor:
    """Factor H = L L', damped as far as it takes.

    An input that is always zero gets next to nothing: no rank is spent on what nobody sees.
    """
    import torch

    if not bool(torch.isfinite(gram_II).all()):
        raise StepError("the inputs of a layer are not finite")
    while damping <= MOST:
        damped_II = gram_II.clone()
        damped_II.diagonal().add_(damping * float(gram_II.diagonal().mean()) or 1.0)
        root_II, failed = torch.linalg.cholesky_ex(damped_II)
        if not int(failed):
            return root_II
        damping = max(damping, 1e-8) * RAISE
    raise StepError("the Hessian of a layer can't be factored at any damping")
