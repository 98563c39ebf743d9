"""GPT-NeoX and Pythia (Black et al. 2022, arXiv:2204.06745)."""

from __future__ import annotations

from compressit.anatomy.describing import FFN, Attention, Family, Norm, Stack

SELF = Attention(
    module="attention",
    output="attention.dense",
    fused="query_key_value",
    interleaved=True,
    head_dim="head_size",
)
DENSE = FFN(("mlp.dense_h_to_4h",), "mlp.dense_4h_to_h")
NORMS = (Norm("input_layernorm", ("attention.query_key_value",)), Norm("post_attention_layernorm", DENSE.up))
FAMILY = Family((Stack("layers", (DENSE,), (SELF,), norms=NORMS),))
