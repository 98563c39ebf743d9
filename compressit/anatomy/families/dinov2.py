"""DINOv2 (Oquab et al. 2024, arXiv:2304.07193): ViT's blocks; the largest ones have a gated feed-forward network."""

from __future__ import annotations

from compressit.anatomy.describing import FFN, Family, Norm, Stack
from compressit.anatomy.families.vit import HEADS, SAVED_ATTENTION, SELF

DENSE = FFN(("mlp.fc1",), "mlp.fc2", "mlp_ratio", times="hidden_size")
GATED = FFN(("mlp.gate_proj", "mlp.up_proj"), "mlp.down_proj", None)
# Checkpoints hold the two matrices of the gated one in one.
STORED = FFN(("mlp.weights_in",), "mlp.down_proj", None, halves=True)
SAVED = (*SAVED_ATTENTION, (".mlp.weights_out", ".mlp.down_proj"))
NORMS = (Norm("norm1", HEADS), Norm("norm2", (*DENSE.up, *GATED.up)))
FAMILY = Family(
    (Stack("encoder.layer", (DENSE, GATED, STORED), (SELF,), norms=NORMS),),
    saved=SAVED,
    unreadable="its reader splits mlp.weights_in, and can't split integers and scales",
)
