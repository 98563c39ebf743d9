"""Qwen3 with a mixture of experts (Yang et al. 2025, arXiv:2505.09388): Qwen2's experts."""

from compressit.anatomy.families.qwen2_moe import FAMILY

__all__ = ["FAMILY"]
