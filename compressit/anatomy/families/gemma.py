"""Gemma (Mesnard et al. 2024, arXiv:2403.08295): Llama's blocks."""

from compressit.anatomy.families.llama import FAMILY

__all__ = ["FAMILY"]
