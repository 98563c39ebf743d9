"""Qwen3 (Yang et al. 2025, arXiv:2505.09388): Llama's blocks, with norms over the width of a head."""

from compressit.anatomy.families.llama import FAMILY

__all__ = ["FAMILY"]
