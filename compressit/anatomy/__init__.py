"""Where each architecture keeps its parts, as data, and how to cut them out.

Families are described in `families`, one file each, in the words of `describing`. Names of tensors are read in
`naming`, without torch. `stacking` and `parts` find things in a module, `cutting` and `narrowing` take them out, and
`settling` sees that what is left can be opened again.
"""

from __future__ import annotations

from compressit.anatomy.cutting import cut_heads, cut_heads_apart, cut_neurons
from compressit.anatomy.describing import FFN, Attention, Experts, Family, Keys, Stack, Width
from compressit.anatomy.naming import (
    Place,
    block_index,
    block_name,
    family,
    head_axis,
    head_count,
    head_dim,
    heads_key,
    is_embedding,
    is_expert,
    is_left,
    is_table,
    is_transposed,
    known,
    module_name,
    neuron_axis,
    place,
    refusal,
    saved_name,
    sharing,
    stack_path,
    unit_axes,
    whole,
    width,
)
from compressit.anatomy.narrowing import Channels, adjust, channels, cut_width, narrow_norm, norms, readers
from compressit.anatomy.parts import Heads, alike, attentions, down, heads, neurons, output, projections, together, up
from compressit.anatomy.parts import width as block_width
from compressit.anatomy.settling import fit, settle, settled
from compressit.anatomy.stacking import blocks, keep_blocks, stacks

__all__ = [
    "FFN",
    "Attention",
    "Channels",
    "Experts",
    "Family",
    "Heads",
    "Keys",
    "Place",
    "Stack",
    "Width",
    "adjust",
    "alike",
    "attentions",
    "block_index",
    "block_name",
    "block_width",
    "blocks",
    "channels",
    "cut_heads",
    "cut_heads_apart",
    "cut_neurons",
    "cut_width",
    "down",
    "family",
    "fit",
    "head_axis",
    "head_count",
    "head_dim",
    "heads",
    "heads_key",
    "is_embedding",
    "is_expert",
    "is_left",
    "is_table",
    "is_transposed",
    "keep_blocks",
    "known",
    "module_name",
    "narrow_norm",
    "neuron_axis",
    "neurons",
    "norms",
    "output",
    "place",
    "projections",
    "readers",
    "refusal",
    "saved_name",
    "settle",
    "settled",
    "sharing",
    "stack_path",
    "stacks",
    "together",
    "unit_axes",
    "up",
    "whole",
    "width",
]  # fmt: skip
