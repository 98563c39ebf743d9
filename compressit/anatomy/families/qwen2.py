"""Qwen2 (Yang et al. 2024, arXiv:2407.10671): Llama's blocks, with biases."""

from compressit.anatomy.families.llama import FAMILY

__all__ = ["FAMILY"]
