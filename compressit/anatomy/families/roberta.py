"""RoBERTa (Liu et al. 2019, arXiv:1907.11692): BERT's blocks."""

from compressit.anatomy.families.bert import FAMILY

__all__ = ["FAMILY"]
