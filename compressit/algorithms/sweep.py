"""Change a matrix input by input, and let the inputs that are left make up for each change (Hassibi & Stork 1993).

The inputs are taken in order. Where column i changes from w to d, its error e = (w - d) / U_ii is spread over the later
columns by row i of U, the factor that `hessian.factor` gives: w_j -= e * U_ij (Frantar & Alistarh 2022,
arXiv:2208.11580). The matrix lies transposed, so that a column is one contiguous row::

    I  . . . .   done
       . . . .
       # # # #   this input: decided now
       + + + +   the rest of a narrow strip: made up for at once
       o o o o   the rest of the block: when the strip is done, as one product
       - - - -   later blocks: when the block is done, as one product
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    import torch


class Rule(Protocol):
    """Decides what weights become."""

    def block(self, start: int, rows_BO: torch.Tensor) -> None:
        """Look at a block of inputs before any of them is decided; all earlier ones are made up for."""

    def decide(self, index: int, row_O: torch.Tensor) -> torch.Tensor:
        """Give what the weights of one input become: (O,). The rest of its strip is made up for, too."""


def sweep(w_IO: torch.Tensor, upper_II: torch.Tensor, rule: Rule, *, block: int = 128, strip: int = 16) -> None:
    """Change a transposed matrix in place.

    Args:
        w_IO: float32, contiguous.
        upper_II: As `hessian.factor` gives it, for the same order of inputs.
        rule: Decides.
        block: Inputs in a block, a multiple of `strip`.
        strip: Inputs in a strip.
    """
    import torch

    inputs = len(w_IO)
    diagonal = upper_II.diagonal().tolist()
    for start in range(0, inputs, block):
        stop = min(start + block, inputs)
        rows_BO = w_IO[start:stop]
        errors_BO = torch.empty_like(rows_BO)
        upper_BB = upper_II[start:stop, start:stop]
        rule.block(start, rows_BO)
        for first in range(0, stop - start, strip):
            last = min(first + strip, stop - start)
            for here in range(first, last):
                decided_O = rule.decide(start + here, rows_BO[here])
                error_O = torch.sub(rows_BO[here], decided_O, out=errors_BO[here]).div_(diagonal[start + here])
                rows_BO[here] = decided_O
                if here + 1 < last:
                    rows_BO[here + 1 : last].addr_(upper_BB[here, here + 1 : last], error_O, alpha=-1)
            if last < stop - start:
                rows_BO[last:].addmm_(upper_BB[first:last, last:].T, errors_BO[first:last], alpha=-1)
        if stop < inputs:
            w_IO[stop:].addmm_(upper_II[start:stop, stop:].T, errors_BO, alpha=-1)
