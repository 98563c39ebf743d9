"""The matrix of a rank that gives nearest to what a matrix gave, of the inputs that it sees, as two thin ones."""

from __future__ import annotations

import math
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

    def factors(self, rank: int) -> Factors:
        """Give the matrix of a rank as some of its own rows, and the others as sums of these.

        A product of two thin matrices says R * R numbers twice, for any matrix between the two leaves it as it is. With
        R of its rows in place of the one, the other need not say what these are (Zhao et al. 2025, arXiv:2501.19090).
        The rows are those that elimination with partial pivoting comes to (as Pearce et al. 2023, arXiv:2310.09417).
        """
        import torch

        scaled_OR = self.left_OK[:, :rank] * self.values_K[:rank]
        # Singular values that are zero, or next to it, would leave rows without a pivot.
        compact, pivots = torch.linalg.lu_factor(self.left_OK[:, :rank])
        swaps_OO, lower_OR, _ = torch.lu_unpack(compact, pivots)
        chosen_O = swaps_OO.argmax(0)
        rest_PR = torch.linalg.solve_triangular(
            lower_OR[:rank], lower_OR[rank:], upper=False, left=False, unitriangular=True
        )
        rows_RI = scaled_OR[chosen_O[:rank]] @ self.right_KI[:rank]
        return Factors(rows_RI.float().contiguous(), rest_PR.float().contiguous(), chosen_O.argsort())


@dataclass(frozen=True)
class Factors:
    """A matrix of low rank: some of its rows, and how the others are made of them.

    Attributes:
        reduce_RI: The rows, float32.
        expand_PR: The other rows as sums of these, (O - R, R), float32.
        order_O: Where each row is found among the ones and the others, one after the other.
    """

    reduce_RI: torch.Tensor
    expand_PR: torch.Tensor
    order_O: torch.Tensor

    @property
    def product_OI(self) -> torch.Tensor:
        """The matrix."""
        import torch

        return torch.cat([self.reduce_RI, self.expand_PR @ self.reduce_RI])[self.order_O]


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


def size(outputs: int, inputs: int, rank: int) -> int:
    """Count the numbers of a matrix of a rank."""
    return rank * (outputs + inputs - rank)


def rank_of_share(outputs: int, inputs: int, share: float) -> int:
    """Give the largest rank that takes no more than a share of the elements of the whole, 1 at least."""
    both = outputs + inputs
    rank = int((both - math.sqrt(both**2 - 4 * share * outputs * inputs)) / 2)
    # Rounding of the root.
    return max(1, rank - (size(outputs, inputs, rank) > share * outputs * inputs))


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
