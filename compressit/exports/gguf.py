"""GGUF, for llama.cpp and what is built on it: laptops, phones, servers without a GPU.

A matrix that a step has rounded keeps its rounding: symmetric integers of up to 4 bits become Q4_0, of 5 bits Q5_0, of
up to 8 bits Q8_0, each block of 32 with its group's scale in 16 bits; so what GPTQ or AWQ chose is what llama.cpp
computes with. All others are stored as `weights` says, or in 16 bits where their rows are no whole blocks; norms and
biases in float32. llama.cpp itself rounds what comes into a matrix of integers to 8 bits, and keeps keys and values in
16.

The float32 file is checked against the checkpoint's own logits on a few windows of real text, and llama.cpp's tokens of
them against the tokenizer's. Llama, Mistral, Qwen2 and Qwen3 with blocks of one shape; byte-level BPE of GPT-2's, Llama
3's, Qwen2's (llama.cpp doesn't compose characters first, as that does) or SmolLM's kind, and Llama 2's with byte
fallback.

Format: https://github.com/ggml-org/ggml/blob/master/docs/gguf.md

Recipe::

    - export: gguf
      weights: q8_0
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar, Literal

from compressit.errors import StepError
from compressit.exports import Calibration, ExportConfig, _ggml, _gguf_places, _gguf_tokens
from compressit.exports._checking import Reference
from compressit.model import Model
from compressit.runtimes import load
from compressit.steps import Fact, Notes, StepConfig
from compressit.steps._quantizing import StoringConfig, schemes
from compressit.weights import Weights

if TYPE_CHECKING:
    import torch


CHECKED = 2
"""Batches of windows that a file is checked on."""


class Config(ExportConfig):
    """Fields of the export."""

    runtime: ClassVar[str] = "llamacpp"
    carries: ClassVar[frozenset[Fact]] = frozenset({Fact.SHAPES, Fact.SPARSITY, Fact.DTYPE, Fact.QUANTIZATION})
    tasks: ClassVar[frozenset[str]] = frozenset({"text-generation", "multiple-choice"})

    weights: Literal["float32", "float16", "bfloat16", "q8_0", "q5_0", "q4_0"] = "float16"
    """How matrices are stored that no step has rounded: GGUF's types."""


def foresee(config: Config, steps: Sequence[StepConfig], weights: Weights | None) -> None:
    """Refuse what llama.cpp has no place for.

    Raises:
        CompressitError: with what is wrong.
    """
    if weights is not None:
        _gguf_places.family(weights.model_type)
    for number, step in enumerate(steps, 1):
        if step.uneven():
            raise StepError(
                f"gguf: llama.cpp takes blocks of one shape, and step {number} ({step.step}) lets them differ",
                hint="cut the same out of every block: prune_ffn and prune_heads with uniform: true",
            )
        if isinstance(step, StoringConfig):
            layers = weights.linears() if weights is not None else {}
            found = schemes(weights, step) if weights is not None else {"any layer": step.scheme}
            for name, scheme in found.items():
                inputs = layers[name].shape[1] if name in layers else _gguf_places.BLOCK
                _gguf_places.grid_type(scheme, name, inputs)
        elif Fact.QUANTIZATION in step.made():
            raise StepError(
                f"gguf: the file has no place for what step {number} ({step.step}) makes",
                hint="remove that step, or leave the export out",
            )
    if weights is not None:
        _gguf_places.check_alike({tensor.name: tensor.shape for tensor in weights.tensors})


def run(
    model: Model,
    config: Config,
    folder: Path,
    examples: Sequence[Mapping[str, torch.Tensor]],
    calibration: Calibration | None = None,
) -> Notes:
    """Write model.gguf, config and processor.

    Args:
        model: Left as it is.
        config: The export's fields.
        folder: An empty folder.
        examples: Collated batches of real inputs; the file is checked on them.
        calibration: Not used.

    Raises:
        StepError: the format or llama.cpp has no place for something of the model, or computes something else.
    """
    runtime = load(config.runtime)
    runtime.ready()
    file, vocabulary = folder / runtime.FILE, model.module.get_input_embeddings().num_embeddings
    about = _gguf_tokens.described(model.processor, vocabulary)
    module, reference = Reference.begin(model, folder, examples[:CHECKED])
    _ggml.write(module, {}, "float32", about, file)
    read = runtime.tokenizer(folder)
    for batch in reference.inputs:
        for tokens, there in zip(batch["input_ids"], batch["attention_mask"], strict=True):
            _gguf_tokens.check(model.processor, model.processor.decode(tokens[there.bool()]), read)
    notes = reference.check(folder, config)
    if config.weights != "float32" or model.quantized:
        stored = _ggml.write(module, model.quantized, config.weights, about, file)
        notes = {**reference.compare(folder, config), **stored}
    return notes
