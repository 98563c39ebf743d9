"""Mixtral (Jiang et al. 2024, arXiv:2401.04088)."""

from __future__ import annotations

from compressit.anatomy.describing import Experts, Family, Norm, Stack
from compressit.anatomy.families.llama import READ_BY_HEADS, RMS, SELF

READ_BY_EXPERTS = Norm("post_attention_layernorm", ("mlp.gate", "mlp.experts"))
FAMILY = Family(
    (Stack("layers", (), (SELF,), norms=(READ_BY_HEADS, READ_BY_EXPERTS)),),
    saved=((".block_sparse_moe.", ".mlp."),),
    experts=Experts(gate_up=("w1", "w3"), down="w2"),
    left=("*.mlp.gate",),
    width=RMS,
)
