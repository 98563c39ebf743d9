"""WavLM (Chen et al. 2022, arXiv:2110.13900): wav2vec 2.0's blocks, with position biases that each head gates.

Its attention is computed by torch from the weights alone, so that neither what its matrices see can be watched nor
integers put in their place; and each head gates by its own share of the block's input, so that none can go.
"""

from __future__ import annotations

from compressit.anatomy.describing import Family, Norm, Stack
from compressit.anatomy.families.wav2vec2 import DENSE, WIDTH

NORMS = (Norm("final_layer_norm", DENSE.up, "do_stable_layer_norm"),)
FIRST = ("attention.rel_attn_embed",)
LEFT = ("*.attention.*",)
FAMILY = Family(
    (Stack("encoder.layers", (DENSE,), first=FIRST, norms=NORMS),),
    left=LEFT,
    width=WIDTH,
    raw=True,
    gated="each gates position biases by its own share of the block's input",
)
