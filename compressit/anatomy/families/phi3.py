"""Phi-3 (Abdin et al. 2024, arXiv:2404.14219): Llama's blocks, with matrices that lie one below the other."""

from __future__ import annotations

from compressit.anatomy.describing import FFN, Attention, Family, Keys, Norm, Stack
from compressit.anatomy.families.llama import RMS

SELF = Attention(
    module="self_attn",
    output="self_attn.o_proj",
    fused="qkv_proj",
    key_value_counts=("num_key_value_heads",),
    reads="num_attention_heads",
    keys=Keys(key_value="num_key_value_heads", head_dim="head_dim"),
)
GATED = FFN(("mlp.gate_up_proj",), "mlp.down_proj", halves=True)
NORMS = (Norm("input_layernorm", ("self_attn.qkv_proj",)), Norm("post_attention_layernorm", GATED.up))
FAMILY = Family((Stack("layers", (GATED,), (SELF,), norms=NORMS),), width=RMS)
