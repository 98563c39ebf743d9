"""BART (Lewis et al. 2020, arXiv:1910.13461)."""

from __future__ import annotations

from dataclasses import replace

from compressit.anatomy.describing import FFN, Attention, Family, Keys, Stack, Width

ENCODER = Attention(
    module="self_attn",
    output="self_attn.out_proj",
    query=("q_proj",),
    key_value=("k_proj", "v_proj"),
    counts=("num_heads",),
    keys=Keys("encoder_attention_heads"),
)
DECODER = replace(ENCODER, keys=Keys("decoder_attention_heads"))
CROSS = replace(DECODER, module="encoder_attn", output="encoder_attn.out_proj", kind="cross")
FAMILY = Family(
    (
        Stack("encoder.layers", (FFN(("fc1",), "fc2", "encoder_ffn_dim"),), (ENCODER,), "encoder_layers"),
        Stack("decoder.layers", (FFN(("fc1",), "fc2", "decoder_ffn_dim"),), (DECODER, CROSS), "decoder_layers"),
    ),
    width=Width("d_model", scales_embeddings="scale_embedding"),
)
