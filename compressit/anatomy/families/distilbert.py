"""DistilBERT (Sanh et al. 2019, arXiv:1910.01108)."""

from __future__ import annotations

from compressit.anatomy.describing import FFN, Attention, Family, Keys, Stack, Width

SELF = Attention(
    module="attention",
    output="attention.out_lin",
    query=("q_lin",),
    key_value=("k_lin", "v_lin"),
    head_dim="attention_head_size",
    counts=("n_heads",),
    keys=Keys("n_heads"),
)
FAMILY = Family(
    (Stack("transformer.layer", (FFN(("ffn.lin1",), "ffn.lin2", "hidden_dim"),), (SELF,)),), width=Width("dim")
)
