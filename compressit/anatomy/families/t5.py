"""T5 (Raffel et al. 2020, arXiv:1910.10683)."""

from __future__ import annotations

from dataclasses import replace

from compressit.anatomy.describing import FFN, Attention, Family, Keys, Norm, Stack, Width

SELF = Attention(
    module="layer.0.SelfAttention",
    output="layer.0.SelfAttention.o",
    query=("q",),
    key_value=("k", "v"),
    head_dim="key_value_proj_dim",
    counts=("n_heads",),
    widths=("inner_dim",),
    keys=Keys("num_heads", head_dim="d_kv"),
)
ENCODING = replace(SELF, shared=f"encoder.block.0.{SELF.module}.relative_attention_bias.weight")
DECODING = replace(SELF, shared=f"decoder.block.0.{SELF.module}.relative_attention_bias.weight")
CROSS = replace(SELF, module="layer.1.EncDecAttention", output="layer.1.EncDecAttention.o", kind="cross", alike=True)
ENCODER = (
    FFN(("layer.1.DenseReluDense.wi",), "layer.1.DenseReluDense.wo", "d_ff"),
    FFN(("layer.1.DenseReluDense.wi_0", "layer.1.DenseReluDense.wi_1"), "layer.1.DenseReluDense.wo", "d_ff"),
)
DECODER = (
    FFN(("layer.2.DenseReluDense.wi",), "layer.2.DenseReluDense.wo", "d_ff"),
    FFN(("layer.2.DenseReluDense.wi_0", "layer.2.DenseReluDense.wi_1"), "layer.2.DenseReluDense.wo", "d_ff"),
)
READ_BY_HEADS = Norm("layer.0.layer_norm", tuple(f"{SELF.module}.{leaf}" for leaf in "qkv"))
# Keys and values of the cross-attention are made of what the encoder gives.
READ_BY_QUERIES = Norm("layer.1.layer_norm", (f"{CROSS.module}.q",))
ENCODER_NORMS = (READ_BY_HEADS, Norm("layer.1.layer_norm", (*ENCODER[0].up, *ENCODER[1].up)))
DECODER_NORMS = (READ_BY_HEADS, READ_BY_QUERIES, Norm("layer.2.layer_norm", (*DECODER[0].up, *DECODER[1].up)))
TABLE = ("layer.0.SelfAttention.relative_attention_bias", "layer.0.SelfAttention.has_relative_attention_bias")
FAMILY = Family(
    (
        Stack("encoder.block", ENCODER, (ENCODING,), "num_layers", TABLE, norms=ENCODER_NORMS),
        Stack("decoder.block", DECODER, (DECODING, CROSS), "num_decoder_layers", TABLE, norms=DECODER_NORMS),
    ),
    left=("*.relative_attention_bias",),
    width=Width(
        "d_model", eps="layer_norm_epsilon", last="decoder.final_layer_norm", scales_logits="scale_decoder_outputs"
    ),
    unmixed="layers that wait to be unpacked have no weights, which its class asks for as it is opened",
)
