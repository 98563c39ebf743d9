"""OLMoE (Muennighoff et al. 2024, arXiv:2409.02060): Qwen2's experts; its queries are normed over all heads at once."""

from __future__ import annotations

from compressit.anatomy.describing import Experts, Family, Stack
from compressit.anatomy.families.llama import READ_BY_HEADS
from compressit.anatomy.families.mixtral import READ_BY_EXPERTS

STACK = Stack("layers", norms=(READ_BY_HEADS, READ_BY_EXPERTS))
FAMILY = Family((STACK,), experts=Experts(), left=("*.mlp.gate",))
