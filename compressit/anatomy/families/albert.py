"""ALBERT (Lan et al. 2020, arXiv:1909.11942): all layers run one block, so a cut in it is a cut in all of them."""

from __future__ import annotations

from compressit.anatomy.describing import FFN, Attention, Family, Stack

SELF = Attention(
    module="attention",
    output="attention.dense",
    query=("query",),
    key_value=("key", "value"),
    head_dim="attention_head_size",
    counts=("num_attention_heads",),
    widths=("all_head_size",),
)
BLOCKS = "encoder.albert_layer_groups.*.albert_layers"
FAMILY = Family((Stack(BLOCKS, (FFN(("ffn",), "ffn_output"),), (SELF,)),), repeated=True)
