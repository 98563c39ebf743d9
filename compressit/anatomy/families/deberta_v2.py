"""DeBERTa-v2 and v3 (He et al. 2021, arXiv:2111.09543): heads have matrices for positions too."""

from __future__ import annotations

from compressit.anatomy.describing import Attention, Family, Stack, Width
from compressit.anatomy.families.bert import DENSE

SELF = Attention(
    module="attention.self",
    output="attention.output.dense",
    query=("query_proj", "pos_query_proj"),
    key_value=("key_proj", "value_proj", "pos_key_proj"),
    head_dim="attention_head_size",
    counts=("num_attention_heads",),
    widths=("all_head_size",),
)
FAMILY = Family(
    (Stack("encoder.layer", (DENSE,), (SELF,)),), width=Width(also=("embedding_size", "pooler_hidden_size"))
)
