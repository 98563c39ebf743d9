"""GPT-2 (Radford et al. 2019)."""

from __future__ import annotations

from compressit.anatomy.describing import FFN, Attention, Family, Keys, Norm, Stack, Width

SELF = Attention(
    module="attn",
    output="attn.c_proj",
    fused="c_attn",
    counts=("num_heads",),
    widths=("split_size",),
    keys=Keys("n_head"),
)
DENSE = FFN(("mlp.c_fc",), "mlp.c_proj", "n_inner")
NORMS = (Norm("ln_1", ("attn.c_attn",)), Norm("ln_2", DENSE.up))
FAMILY = Family((Stack("h", (DENSE,), (SELF,), norms=NORMS),), transposed=True, width=Width("n_embd"))
