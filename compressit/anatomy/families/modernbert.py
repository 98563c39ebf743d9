"""ModernBERT (Warner et al. 2024, arXiv:2412.13663)."""

from __future__ import annotations

from compressit.anatomy.describing import FFN, Attention, Family, Norm, Stack

SELF = Attention(module="attn", output="attn.Wo", fused="Wqkv")
DENSE = FFN(("mlp.Wi",), "mlp.Wo", halves=True)
NORMS = (Norm("attn_norm", ("attn.Wqkv",)), Norm("mlp_norm", DENSE.up))
FIRST = "only the first has no norm ahead of its attention"
FAMILY = Family(
    (Stack("layers", (DENSE,), (SELF,), stays=FIRST, norms=NORMS),),
    unmixed="layers that wait to be unpacked have no weights, which its class asks for as it is opened",
)
