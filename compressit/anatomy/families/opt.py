"""OPT (Zhang et al. 2022, arXiv:2205.01068)."""

from __future__ import annotations

from compressit.anatomy.describing import FFN, Attention, Family, Stack, Width

SELF = Attention(
    module="self_attn",
    output="self_attn.out_proj",
    query=("q_proj",),
    key_value=("k_proj", "v_proj"),
    counts=("num_heads",),
)
FAMILY = Family(
    (Stack("decoder.layers", (FFN(("fc1",), "fc2", "ffn_dim"),), (SELF,)),), width=Width(also=("word_embed_proj_dim",))
)
