"""A decoder's weights as ggml lays them out: names, order of rows, and blocks of 32."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from compressit.errors import StepError
from compressit.exports._gguf_places import BLOCK, Family, check_alike, family, grid_type
from compressit.model.quantized import Quantized

if TYPE_CHECKING:
    import torch
    from numpy.typing import NDArray

TYPES = {"float32": "F32", "float16": "F16", "bfloat16": "BF16", "q8_0": "Q8_0", "q5_0": "Q5_0", "q4_0": "Q4_0"}
FLOATS = ("float32", "float16", "bfloat16")
HEADS = {"q_proj": "num_attention_heads", "k_proj": "num_key_value_heads"}
"""Layers whose rows are rotated, by what config.json calls the number of their heads."""
SLIDING = ("mistral",)
"""Families whose window slides wherever config.json names one; the others ask for it with a switch."""


def write(
    module: Any, quantized: Mapping[str, Quantized], weights: str, about: Mapping[str, Any], file: Path
) -> dict[str, Any]:
    """Write a GGUF file.

    Args:
        module: A causal language model in float32 on the CPU.
        quantized: Matrices that keep their rounding, by name.
        weights: How others are stored.
        about: The tokenizer's fields by name.
        file: Replaced; who has it open keeps what was in it.

    Returns:
        `kept_rounding`, how many matrices did; `in_16_bits`, how many are no whole blocks.

    Raises:
        StepError: llama.cpp has no place for something of the model.
    """
    import gguf

    settings = module.config
    own = _checked(settings)
    kinds = {name: grid_type(grid.scheme, name, grid.whole_OI.shape[1]) for name, grid in quantized.items()}
    tensors = dict(_tensors(module))
    check_alike({name: tensor.shape for name, tensor in tensors.items()})
    architecture = next(key for key, name in gguf.MODEL_ARCH_NAMES.items() if name == own.name)
    places = gguf.get_tensor_name_map(architecture, settings.num_hidden_layers)
    notes = {"kept_rounding": len(kinds), "in_16_bits": 0}
    file.unlink(missing_ok=True)
    writer = gguf.GGUFWriter(str(file), own.name)
    try:
        _describe(writer, settings)
        chief = min(kinds.values(), default=TYPES[weights])
        writer.add_file_type(gguf.LlamaFileType[f"{'ALL' if chief == 'F32' else 'MOSTLY'}_{chief}"])
        for name, value in about.items():
            getattr(writer, f"add_{name}")(value)
        for name, tensor in tensors.items():
            place = places.get_name(name, try_suffixes=(".weight", ".bias"))
            if place is None:
                raise StepError(
                    f"gguf: llama.cpp's {own.name} has no place for {name}", hint="leave the export of this model out"
                )
            heads, layer = _heads(settings, own, name), name.removesuffix(".weight")
            if layer in quantized:
                kind = kinds[layer]
                data = _blocks(quantized[layer], heads, kind)
            else:
                kind = "F32" if tensor.dim() < 2 else TYPES[weights]
                if weights not in FLOATS and tensor.dim() > 1 and tensor.shape[-1] % BLOCK:
                    kind, notes["in_16_bits"] = "F16", notes["in_16_bits"] + 1
                rows = _paired(tensor, heads).contiguous().numpy()
                data = gguf.quants.quantize(rows, gguf.GGMLQuantizationType[kind])
            writer.add_tensor(place, data, raw_dtype=gguf.GGMLQuantizationType[kind])
        if (factors := _rope_factors(settings)) is not None:
            writer.add_tensor("rope_freqs.weight", factors)
        writer.write_header_to_file()
        writer.write_kv_data_to_file()
        writer.write_tensors_to_file()
    finally:
        writer.close()
    return notes


def _checked(settings: Any) -> Family:
    """Find the family, and refuse settings that llama.cpp would pass over."""
    found = family(settings.model_type)
    if settings.hidden_act != "silu":
        raise StepError(
            f"gguf: llama.cpp computes {settings.model_type} with silu, and this one has {settings.hidden_act}",
            hint="leave the export of this model out",
        )
    slides = getattr(settings, "use_sliding_window", settings.model_type in SLIDING)
    if slides and getattr(settings, "sliding_window", None):
        raise StepError(
            f"gguf: llama.cpp has no sliding window for {settings.model_type}",
            hint="leave the export of this model out",
        )
    if _rope(settings)["rope_type"] not in ("default", "linear", "llama3"):
        raise StepError(
            f"gguf: positions of the type {_rope(settings)['rope_type']} are not written",
            hint="leave the export of this model out",
        )
    return found


def _describe(writer: Any, settings: Any) -> None:
    """Write what llama.cpp has to know of the shapes and the arithmetic."""
    import gguf

    head, rope = _head(settings), _rope(settings)
    writer.add_context_length(settings.max_position_embeddings)
    writer.add_embedding_length(settings.hidden_size)
    writer.add_block_count(settings.num_hidden_layers)
    writer.add_feed_forward_length(settings.intermediate_size)
    writer.add_head_count(settings.num_attention_heads)
    writer.add_head_count_kv(settings.num_key_value_heads)
    writer.add_key_length(head)
    writer.add_value_length(head)
    writer.add_rope_dimension_count(head)
    writer.add_layer_norm_rms_eps(settings.rms_norm_eps)
    writer.add_vocab_size(settings.vocab_size)
    writer.add_rope_freq_base(rope["rope_theta"])
    if rope["rope_type"] == "linear":
        writer.add_rope_scaling_type(gguf.RopeScalingType.LINEAR)
        writer.add_rope_scaling_factor(rope["factor"])
    writer.add_quantization_version(gguf.GGML_QUANT_VERSION)


def _tensors(module: Any) -> Iterator[tuple[str, torch.Tensor]]:
    """List what the checkpoint holds, a tied output matrix once."""
    tied = module.config.tie_word_embeddings
    return ((name, each) for name, each in module.state_dict().items() if not (tied and name == "lm_head.weight"))


def _heads(settings: Any, own: Family, name: str) -> int:
    """Count the heads whose rows have to be paired; 0 where they stay as they are."""
    found = (key for layer, key in HEADS.items() if own.paired and f".{layer}." in name)
    return next((getattr(settings, key) for key in found), 0)


def _head(settings: Any) -> int:
    found: int = getattr(settings, "head_dim", None) or settings.hidden_size // settings.num_attention_heads
    return found


def _rope(settings: Any) -> Mapping[str, Any]:
    found: Mapping[str, Any] = settings.rope_parameters
    return found


def _rope_factors(settings: Any) -> NDArray[Any] | None:
    """Give what each frequency is divided by in models that were trained on for longer texts, as Llama 3.1 was."""
    import numpy as np

    rope, head = _rope(settings), _head(settings)
    if rope["rope_type"] != "llama3":
        return None
    factor, low, high = rope["factor"], rope["low_freq_factor"], rope["high_freq_factor"]
    turns = [
        rope["original_max_position_embeddings"] / (2 * math.pi * rope["rope_theta"] ** (place / head))
        for place in range(0, head, 2)
    ]
    smooth = np.clip((np.array(turns) - low) / (high - low), 0, 1)
    divided: NDArray[Any] = (1 / ((1 - smooth) / factor + smooth)).astype(np.float32)
    return divided


def _paired(rows: torch.Tensor, heads: int) -> torch.Tensor:
    """Put the two rows side by side that are rotated together; all stays as it is for no heads."""
    if not heads:
        return rows
    return rows.reshape(heads, 2, len(rows) // heads // 2, *rows.shape[1:]).transpose(1, 2).reshape(rows.shape)


def _blocks(grid: Quantized, heads: int, kind: str) -> NDArray[Any]:
    """Lay integers out in blocks, each with its scale in 16 bits: (O, I / 32 * bytes of a block).

    Shapes: O outputs, I inputs, G groups of a row, N blocks of a row, K weights of a block.
    """
    import numpy as np
    import torch

    whole_OI, scale_OG = _paired(grid.whole_OI, heads), _paired(grid.scale_OG, heads)
    rows, inputs = whole_OI.shape
    blocks = inputs // BLOCK
    scale_ON = scale_OG.to(torch.float16).repeat_interleave(blocks // scale_OG.shape[1], dim=1).numpy()
    whole_ONK = whole_OI.numpy().reshape(rows, blocks, BLOCK)
    if kind == "Q8_0":
        parts = [whole_ONK.view(np.uint8)]
    else:
        # The first half of a block lies in the low bits of its bytes, the second in the high ones.
        above_ONK = (whole_ONK + (8 if kind == "Q4_0" else 16)).astype(np.uint8)
        low_ONK = above_ONK & 0x0F
        parts = [low_ONK[..., : BLOCK // 2] | (low_ONK[..., BLOCK // 2 :] << 4)]
        if kind == "Q5_0":
            parts.insert(0, np.packbits(above_ONK >> 4, axis=-1, bitorder="little"))
    return np.concatenate([scale_ON[..., None].view(np.uint8), *parts], axis=-1).reshape(rows, -1)
