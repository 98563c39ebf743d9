"""ViT (Dosovitskiy et al. 2021, arXiv:2010.11929)."""

from __future__ import annotations

from compressit.anatomy.describing import FFN, Attention, Family, Keys, Norm, Stack

SELF = Attention(
    module="attention",
    output="attention.o_proj",
    query=("q_proj",),
    key_value=("k_proj", "v_proj"),
    counts=("num_attention_heads",),
    keys=Keys(head_dim="head_dim"),
)
DENSE = FFN(("mlp.fc1",), "mlp.fc2")
HEADS = ("attention.q_proj", "attention.k_proj", "attention.v_proj")
NORMS = (Norm("layernorm_before", HEADS), Norm("layernorm_after", DENSE.up))
SAVED_ATTENTION = (
    (".attention.attention.query", ".attention.q_proj"),
    (".attention.attention.key", ".attention.k_proj"),
    (".attention.attention.value", ".attention.v_proj"),
    (".attention.output.dense", ".attention.o_proj"),
)
SAVED = (
    *SAVED_ATTENTION,
    (".intermediate.dense", ".mlp.fc1"),
    (".output.dense", ".mlp.fc2"),
    ("encoder.layer.", "layers."),
)
FAMILY = Family((Stack("layers", (DENSE,), (SELF,), norms=NORMS),), saved=SAVED)
