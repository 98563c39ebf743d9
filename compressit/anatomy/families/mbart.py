"""mBART (Liu et al. 2020, arXiv:2001.08210): BART's blocks, and a norm behind the last of each stack."""

from compressit.anatomy.families.bart import FAMILY

__all__ = ["FAMILY"]
