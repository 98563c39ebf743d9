"""MPNet (Song et al. 2020, arXiv:2004.09297): BERT's blocks, which all add one table of position biases."""

from __future__ import annotations

from compressit.anatomy.describing import Attention, Family, Stack
from compressit.anatomy.families.bert import DENSE

SELF = Attention(
    module="attention.attn",
    output="attention.attn.o",
    query=("q",),
    key_value=("k", "v"),
    head_dim="attention_head_size",
    counts=("num_attention_heads",),
    widths=("all_head_size",),
    shared="encoder.relative_attention_bias.weight",
)
FAMILY = Family((Stack("encoder.layer", (DENSE,), (SELF,)),))
