"""Losses on vectors of texts, of which only directions count.

B pairs, N vectors, D channels of the student, E of the teacher. All are computed in float32.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import torch

SCALE = 20.0
"""What cosines are multiplied by ahead of an exponential; that of CoSENT's authors and of sentence-transformers."""


def cosines(one_ND: torch.Tensor, other_ND: torch.Tensor) -> torch.Tensor:
    """Cosine of each vector and its counterpart: (N,)."""
    import torch

    return torch.cosine_similarity(one_ND.float(), other_ND.float(), dim=-1)


def ranking(cosines_B: torch.Tensor, scores_B: torch.Tensor) -> torch.Tensor:
    """CoSENT: log(1 + sum over i, j with score_i < score_j of exp(20 * (cos_i - cos_j))) (Su 2022, kexue.fm/8847).

    Only the order of scores counts, as in Spearman's correlation; those that are NaN are passed over.
    """
    import torch

    wrong_BB = SCALE * (cosines_B[:, None] - cosines_B[None, :])
    counted_BB = scores_B[:, None] < scores_B[None, :]
    return torch.cat([cosines_B.new_zeros(1), wrong_BB[counted_BB]]).logsumexp(0)


def aligned(student_ND: torch.Tensor, teacher_ND: torch.Tensor) -> torch.Tensor:
    """20 * (1 - cosine) of each vector and the teacher's, averaged."""
    return SCALE * (1 - cosines(student_ND, teacher_ND)).mean()


def alike(student_ND: torch.Tensor, teacher_NE: torch.Tensor) -> torch.Tensor:
    """Compare how each vector stands to all others, for vectors of any width.

    Cosines of a row, times 20, are read as logits: KL(teacher || student), averaged over rows (Passalis and Tefas 2018,
    arXiv:1803.10837, with other kernels).
    """
    import torch
    from torch.nn import functional

    apart_NN = ~torch.eye(len(student_ND), dtype=torch.bool, device=student_ND.device)
    own_NN, shown_NN = (
        (functional.normalize(each.float(), dim=-1) @ functional.normalize(each.float(), dim=-1).T)[apart_NN]
        .unflatten(0, (len(each), -1))
        .mul(SCALE)
        .log_softmax(-1)
        for each in (student_ND, teacher_NE)
    )
    return functional.kl_div(own_NN, shown_NN, log_target=True, reduction="batchmean")
