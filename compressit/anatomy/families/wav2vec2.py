"""wav2vec 2.0 (Baevski et al. 2020, arXiv:2006.11477): blocks behind convolutions that hear a waveform."""

from __future__ import annotations

from compressit.anatomy.describing import FFN, Attention, Family, Norm, Stack, Width

SELF = Attention(
    module="attention",
    output="attention.out_proj",
    query=("q_proj",),
    key_value=("k_proj", "v_proj"),
    counts=("num_heads",),
)
DENSE = FFN(("feed_forward.intermediate_dense",), "feed_forward.output_dense")
HEADS = ("attention.q_proj", "attention.k_proj", "attention.v_proj")
# Only where norms come first does nothing but matrices read them.
NORMS = (
    Norm("layer_norm", HEADS, "do_stable_layer_norm"),
    Norm("final_layer_norm", DENSE.up, "do_stable_layer_norm"),
)
# What is added for positions is convolved in groups of channels.
WIDTH = Width(computed=True)
FAMILY = Family((Stack("encoder.layers", (DENSE,), (SELF,), norms=NORMS),), width=WIDTH, raw=True)
