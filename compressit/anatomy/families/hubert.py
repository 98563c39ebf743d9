"""HuBERT (Hsu et al. 2021, arXiv:2106.07447): wav2vec 2.0's blocks."""

from compressit.anatomy.families.wav2vec2 import FAMILY

__all__ = ["FAMILY"]
