"""Phi-3 (Abdin et al. 2024, arXiv:2404.14219): Llama's blocks, with matrices that lie one below the other."""

from __future__ import annotations

from compressit.anatomy.describing import FFN, Attention, Family, Keys, Stack
from compressit.anatomy.families.llama import RMS

SELF = Attention(
    module="self_attn",
    output="self_attn.o_proj",
    fused="qkv_proj",
    key_value_counts=("num_key_value_heads",),
    reads="num_attention_heads",
    keys=Keys(key_value="num_key_value_heads", head_dim="head_dim"),
)
FAMILY = Family((Stack("layers", (FFN(("mlp.gate_up_proj",), "mlp.down_proj", halves=True),), (SELF,)),), width=RMS)
