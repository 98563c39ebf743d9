"""M2M-100 and NLLB (Fan et al. 2020, arXiv:2010.11125): BART's blocks; positions are computed for one width."""

from compressit.anatomy.families.marian import FAMILY

__all__ = ["FAMILY"]
