"""OLMoE (Muennighoff et al. 2024, arXiv:2409.02060): Qwen2's experts; its queries are normed over all heads at once."""

from __future__ import annotations

from compressit.anatomy.describing import Experts, Family, Stack

FAMILY = Family((Stack("layers"),), experts=Experts(), left=("*.mlp.gate",))
