"""Gemma 2 (Riviere et al. 2024, arXiv:2408.00118): Llama's blocks, with more norms."""

from compressit.anatomy.families.gemma import FAMILY

__all__ = ["FAMILY"]
