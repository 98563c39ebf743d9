"""Pegasus (Zhang et al. 2020, arXiv:1912.08777): BART's blocks; its positions are computed for one width."""

from compressit.anatomy.families.marian import FAMILY

__all__ = ["FAMILY"]
