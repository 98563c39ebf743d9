"""GPT-2 (Radford et al. 2019)."""

from __future__ import annotations

from compressit.anatomy.describing import FFN, Attention, Family, Keys, Stack, Width

SELF = Attention(
    module="attn",
    output="attn.c_proj",
    fused="c_attn",
    counts=("num_heads",),
    widths=("split_size",),
    keys=Keys("n_head"),
)
FAMILY = Family(
    (Stack("h", (FFN(("mlp.c_fc",), "mlp.c_proj", "n_inner"),), (SELF,)),), transposed=True, width=Width("n_embd")
)
