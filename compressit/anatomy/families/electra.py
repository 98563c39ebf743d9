"""ELECTRA (Clark et al. 2020, arXiv:2003.10555): BERT's blocks."""

from compressit.anatomy.families.bert import FAMILY

__all__ = ["FAMILY"]
