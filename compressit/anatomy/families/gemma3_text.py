"""Gemma 3, its text model (Kamath et al. 2025, arXiv:2503.19786): Llama's blocks, with more norms."""

from compressit.anatomy.families.gemma2 import FAMILY

__all__ = ["FAMILY"]
