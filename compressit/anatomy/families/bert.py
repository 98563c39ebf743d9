"""BERT (Devlin et al. 2019, arXiv:1810.04805)."""

from __future__ import annotations

from compressit.anatomy.describing import FFN, Attention, Family, Stack

SELF = Attention(
    module="attention.self",
    output="attention.output.dense",
    query=("query",),
    key_value=("key", "value"),
    head_dim="attention_head_size",
    counts=("num_attention_heads",),
    widths=("all_head_size",),
)
CROSS = Attention(
    module="crossattention.self",
    output="crossattention.output.dense",
    query=("query",),
    key_value=("key", "value"),
    head_dim="attention_head_size",
    counts=("num_attention_heads",),
    widths=("all_head_size",),
    kind="cross",
)
DENSE = FFN(("intermediate.dense",), "output.dense")
FAMILY = Family((Stack("encoder.layer", (DENSE,), (SELF, CROSS)),))
