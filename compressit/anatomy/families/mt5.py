"""mT5 (Xue et al. 2021, arXiv:2010.11934): T5's blocks."""

from compressit.anatomy.families.t5 import FAMILY

__all__ = ["FAMILY"]
