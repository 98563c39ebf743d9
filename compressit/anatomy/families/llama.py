"""Llama (Touvron et al. 2023, arXiv:2302.13971)."""

from __future__ import annotations

from compressit.anatomy.describing import FFN, Attention, Family, Keys, Norm, Stack, Width

SELF = Attention(
    module="self_attn",
    output="self_attn.o_proj",
    query=("q_proj",),
    key_value=("k_proj", "v_proj"),
    keys=Keys(key_value="num_key_value_heads", head_dim="head_dim"),
)
GATED = FFN(("mlp.gate_proj", "mlp.up_proj"), "mlp.down_proj", counts=("mlp.intermediate_size",))
RMS = Width(eps="rms_norm_eps", last="norm")
READ_BY_HEADS = Norm("input_layernorm", ("self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj"))
READ_BY_NEURONS = Norm("post_attention_layernorm", GATED.up)
FAMILY = Family((Stack("layers", (GATED,), (SELF,), norms=(READ_BY_HEADS, READ_BY_NEURONS)),), width=RMS)
