"""Mistral (Jiang et al. 2023, arXiv:2310.06825): Llama's blocks."""

from compressit.anatomy.families.llama import FAMILY

__all__ = ["FAMILY"]
