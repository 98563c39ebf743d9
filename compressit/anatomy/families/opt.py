"""OPT (Zhang et al. 2022, arXiv:2205.01068)."""

from __future__ import annotations

from compressit.anatomy.describing import FFN, Attention, Family, Norm, Stack, Width

SELF = Attention(
    module="self_attn",
    output="self_attn.out_proj",
    query=("q_proj",),
    key_value=("k_proj", "v_proj"),
    counts=("num_heads",),
)
DENSE = FFN(("fc1",), "fc2", "ffn_dim")
# Of the first ones, the one of 350M alone has its norms behind what they add to.
AHEAD = "do_layer_norm_before"
NORMS = (
    Norm("self_attn_layer_norm", ("self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj"), AHEAD),
    Norm("final_layer_norm", DENSE.up, AHEAD),
)
FAMILY = Family((Stack("decoder.layers", (DENSE,), (SELF,), norms=NORMS),), width=Width(also=("word_embed_proj_dim",)))
