"""BEiT (Bao et al. 2022, arXiv:2106.08254): ViT's blocks, which may add a table of position biases to the scores."""

from __future__ import annotations

from dataclasses import replace

from compressit.anatomy.describing import Family, Stack
from compressit.anatomy.families.vit import DENSE, SAVED, SELF

BIASED = replace(
    SELF,
    tables=("relative_position_bias.relative_position_bias_table",),
    refused="every block adds the same position biases, which the model computes for all heads at once",
    refused_if="use_shared_relative_position_bias",
)
SAVED_TABLE = (".attention.attention.relative_position_bias.", ".relative_position_bias.")
FAMILY = Family((Stack("layers", (DENSE,), (BIASED,)),), saved=(*SAVED, SAVED_TABLE))
