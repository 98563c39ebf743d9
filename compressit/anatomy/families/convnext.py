"""ConvNeXt (Liu et al. 2022, arXiv:2201.03545): convolutions channel by channel ahead of feed-forward networks."""

from __future__ import annotations

from compressit.anatomy.describing import FFN, Family, Norm, Stack

# Four times as wide as its stage, whatever config.json says.
DENSE = FFN(("pwconv1",), "pwconv2", None, scale="layer_scale_parameter")
NORMS = (Norm("layernorm", DENSE.up),)
FAMILY = Family((Stack("encoder.stages.*.layers", (DENSE,), depth="depths", norms=NORMS, staged=True),), headless=True)
