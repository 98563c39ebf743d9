"""Where each architecture keeps its parts, as data, and how to cut them out.

Families are described in `families`, one file each, in the words of `describing`. Names of tensors are read in
`naming`, without torch. `stacking` and `parts` find things in a module, `cutting` takes them out, and `settling` sees
that what is left can be opened again.
"""

from __future__ import annotations

from compressit.anatomy.cutting import cut_heads, cut_neurons
from compressit.anatomy.describing import FFN, Attention, Experts, Family, Keys, Stack
from compressit.anatomy.naming import (
    block_index,
    block_name,
    family,
    head_axis,
    head_dim,
    is_embedding,
    is_expert,
    is_left,
    is_transposed,
    known,
    module_name,
    neuron_axis,
    refusal,
    saved_name,
)
from compressit.anatomy.parts import Heads, attentions, down, heads, neurons, output, up
from compressit.anatomy.settling import fit, settle, settled
from compressit.anatomy.stacking import blocks, keep_blocks, stacks

__all__ = [
    "FFN", "Attention", "Experts", "Family", "Heads", "Keys", "Stack", "attentions", "block_index", "block_name",
    "blocks", "cut_heads", "cut_neurons", "down", "family", "fit", "head_axis", "head_dim", "heads", "is_embedding",
    "is_expert", "is_left", "is_transposed", "keep_blocks", "known", "module_name", "neuron_axis", "neurons",
    "output", "refusal", "saved_name", "settle", "settled", "stacks", "up",
]  # fmt: skip
