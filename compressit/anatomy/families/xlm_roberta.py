"""XLM-RoBERTa (Conneau et al. 2020, arXiv:1911.02116): BERT's blocks."""

from compressit.anatomy.families.bert import FAMILY

__all__ = ["FAMILY"]
