"""Gemma (Mesnard et al. 2024, arXiv:2403.08295): Llama's blocks, with norms that add 1 to their weights."""

from __future__ import annotations

from dataclasses import replace

from compressit.anatomy.families import llama

WIDTH = replace(llama.RMS, offset=1.0, scales_embeddings="always")
FAMILY = replace(llama.FAMILY, width=WIDTH)
