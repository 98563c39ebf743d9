"""Qwen2 with a mixture of experts (Yang et al. 2024, arXiv:2407.10671)."""

from __future__ import annotations

from compressit.anatomy.describing import FFN, Experts, Family, Norm, Stack
from compressit.anatomy.families.llama import GATED, READ_BY_HEADS, RMS, SELF

SHARED = FFN(
    ("mlp.shared_expert.gate_proj", "mlp.shared_expert.up_proj"),
    "mlp.shared_expert.down_proj",
    "shared_expert_intermediate_size",
    counts=("mlp.shared_expert.intermediate_size",),
)
READ_BY_NEURONS = Norm(
    "post_attention_layernorm", ("mlp.gate", "mlp.experts", "mlp.shared_expert_gate", *SHARED.up, *GATED.up)
)
FAMILY = Family(
    (Stack("layers", (SHARED, GATED), (SELF,), norms=(READ_BY_HEADS, READ_BY_NEURONS)),),
    experts=Experts(size="moe_intermediate_size"),
    left=("*.mlp.gate", "*.mlp.shared_expert_gate"),
    width=RMS,
)
