"""DeiT (Touvron et al. 2021, arXiv:2012.12877): ViT's blocks."""

from compressit.anatomy.families.vit import FAMILY

__all__ = ["FAMILY"]
