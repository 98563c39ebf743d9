"""AST (Gong et al. 2021, arXiv:2104.01778): ViT's blocks over patches of a spectrogram."""

from __future__ import annotations

from dataclasses import replace

from compressit.anatomy.families.vit import FAMILY as VIT

FAMILY = replace(VIT, raw=True)
