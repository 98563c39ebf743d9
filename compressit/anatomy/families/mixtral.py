"""Mixtral (Jiang et al. 2024, arXiv:2401.04088)."""

from __future__ import annotations

from compressit.anatomy.describing import Experts, Family, Stack
from compressit.anatomy.families.llama import RMS, SELF

FAMILY = Family(
    (Stack("layers", (), (SELF,)),),
    saved=((".block_sparse_moe.", ".mlp."),),
    experts=Experts(gate_up=("w1", "w3"), down="w2"),
    left=("*.mlp.gate",),
    width=RMS,
)
