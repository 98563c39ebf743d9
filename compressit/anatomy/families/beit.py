"""BEiT (Bao et al. 2022, arXiv:2106.08254): ViT's blocks, which may add tables of position biases."""

from __future__ import annotations

from dataclasses import replace

from compressit.anatomy.describing import Family, Stack
from compressit.anatomy.families.vit import DENSE, NORMS, SAVED, SELF

BIASED = replace(
    SELF,
    tables=("relative_position_bias.relative_position_bias_table",),
    shared="shared_position_bias.relative_position_bias_table",
)
SAVED_TABLE = (".attention.attention.relative_position_bias.", ".relative_position_bias.")
SAVED_SHARED = (".encoder.relative_position_bias.", ".shared_position_bias.")
FAMILY = Family((Stack("layers", (DENSE,), (BIASED,), norms=NORMS),), saved=(*SAVED, SAVED_TABLE, SAVED_SHARED))
