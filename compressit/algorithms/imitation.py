"""What a student is told by a teacher: losses on logits, hidden states and attention relations.

B examples, L positions, D channels, C classes, R relation heads. All are computed in float32.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import torch


def divergence(student_BC: torch.Tensor, teacher_BC: torch.Tensor, temperature: float) -> torch.Tensor:
    """T^2 * KL(teacher / T || student / T), averaged over examples (Hinton et al. 2015, arXiv:1503.02531)."""
    from torch.nn import functional

    return temperature**2 * functional.kl_div(
        functional.log_softmax(student_BC.float() / temperature, dim=-1),
        functional.log_softmax(teacher_BC.float() / temperature, dim=-1),
        log_target=True,
        reduction="batchmean",
    )


def together(teachers_BC: Sequence[torch.Tensor], temperature: float) -> torch.Tensor:
    """Give logits whose softened probabilities are the mean of several teachers'."""
    import torch

    if len(teachers_BC) == 1:
        return teachers_BC[0]
    soft = torch.stack([torch.log_softmax(each.float() / temperature, -1) for each in teachers_BC])
    return temperature * (soft.logsumexp(0) - torch.log(torch.tensor(float(len(teachers_BC)))))


def states(student_BLD: torch.Tensor, teacher_BLD: torch.Tensor, mask_BL: torch.Tensor | None) -> torch.Tensor:
    """Mean squared difference of hidden states over real positions, each brought to mean 0 and variance 1.

    Of the states as they are (Jiao et al. 2020, arXiv:1909.10351) a few channels of large size would make up nearly
    all.
    """
    from torch.nn import functional

    width = student_BLD.shape[-1:]
    apart = functional.layer_norm(student_BLD.float(), width) - functional.layer_norm(teacher_BLD.float(), width)
    apart_BL = apart.square().mean(-1)
    return apart_BL.mean() if mask_BL is None else apart_BL[mask_BL].mean()


def relations(
    student_BLD: torch.Tensor, teacher_BLD: torch.Tensor, heads: int, seen_BLL: torch.Tensor | None
) -> torch.Tensor:
    """KL of how queries (or keys, or values) relate to each other, averaged over heads and positions.

    Both are cut into the same number of relation heads, so that the students' own heads and widths may be others
    (MiniLMv2, Wang et al. 2021, arXiv:2012.15828).

    Args:
        student_BLD: Its queries, keys or values, heads side by side.
        teacher_BLD: The same of the teacher; another width will do.
        heads: Relation heads; they divide both widths.
        seen_BLL: Whether a position (row) may look at another one, True on the diagonal of real positions; a row that
            sees nothing is padding. None where all see all.
    """
    import torch

    student_BRLL, teacher_BRLL = (_related(each, heads, seen_BLL) for each in (student_BLD, teacher_BLD))
    apart_BRLL = teacher_BRLL.exp() * (teacher_BRLL - student_BRLL)
    if seen_BLL is None:
        return apart_BRLL.sum(-1).mean()
    apart_BL = apart_BRLL.masked_fill(~seen_BLL[:, None], 0).sum(-1).mean(1)
    real_BL = seen_BLL.any(-1)
    return torch.where(real_BL, apart_BL, 0).sum() / real_BL.sum()


def _related(given_BLD: torch.Tensor, heads: int, seen_BLL: torch.Tensor | None) -> torch.Tensor:
    import torch

    split_BRLE = given_BLD.float().unflatten(-1, (heads, -1)).transpose(1, 2)
    scores_BRLL = split_BRLE @ split_BRLE.mT / split_BRLE.shape[-1] ** 0.5
    if seen_BLL is not None:
        # Finite: a row of padding has nothing to see.
        scores_BRLL = scores_BRLL.masked_fill(~seen_BLL[:, None], torch.finfo(scores_BRLL.dtype).min)
    return torch.log_softmax(scores_BRLL, -1)
