"""Gemma 2 (Riviere et al. 2024, arXiv:2408.00118): Llama's blocks, with more norms."""

from __future__ import annotations

from dataclasses import replace

from compressit.anatomy.describing import Norm
from compressit.anatomy.families import gemma, llama

NORMS = (llama.READ_BY_HEADS, Norm("pre_feedforward_layernorm", llama.GATED.up))
FAMILY = replace(gemma.FAMILY, stacks=tuple(replace(stack, norms=NORMS) for stack in gemma.FAMILY.stacks))
