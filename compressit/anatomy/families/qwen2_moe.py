"""Qwen2 with a mixture of experts (Yang et al. 2024, arXiv:2407.10671)."""

from __future__ import annotations

from compressit.anatomy.describing import Experts, Family, Stack
from compressit.anatomy.families.llama import RMS, SELF

FAMILY = Family(
    (Stack("layers", (), (SELF,)),),
    experts=Experts(),
    left=("*.mlp.gate", "*.mlp.shared_expert_gate"),
    width=RMS,
)
