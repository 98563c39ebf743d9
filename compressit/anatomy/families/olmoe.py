"""OLMoE (Muennighoff et al. 2024, arXiv:2409.02060): Qwen2's experts."""

from compressit.anatomy.families.qwen2_moe import FAMILY

__all__ = ["FAMILY"]
