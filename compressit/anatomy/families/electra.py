"""ELECTRA (Clark et al. 2020, arXiv:2003.10555): BERT's blocks."""

from __future__ import annotations

from dataclasses import replace

from compressit.anatomy.describing import Width
from compressit.anatomy.families import bert

FAMILY = replace(bert.FAMILY, width=Width(also=("embedding_size",)))
