"""ONNX, with dynamic batch and length, for onnxruntime; optionally int8 with activations quantized at run time.

The graph comes from transformers' own exporter, fused into onnxruntime's operators. The float32 file is checked
against the checkpoint's own logits on real examples; int8 weights are made from that graph by onnxruntime's
quantizer. The folder also holds config and processor: onnxruntime and a tokenizer or image processor serve it.

Recipe::

    - export: onnx
      weights: int8
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from compressit.errors import MissingExtra
from compressit.exports import Calibration, ExportConfig
from compressit.exports._checking import Reference
from compressit.exports._tracing import plain, quiet, traced
from compressit.model import Model, tokens
from compressit.steps import Fact, Notes

if TYPE_CHECKING:
    import torch

FILE = "model.onnx"
PROTOBUF_LIMIT = 1_900_000_000


class Config(ExportConfig):
    """Fields of the export."""

    runtime: ClassVar[str] = "onnxruntime"
    carries: ClassVar[frozenset[Fact]] = frozenset({Fact.SHAPES, Fact.SPARSITY, Fact.DTYPE})

    tasks: ClassVar[frozenset[str]] = frozenset(
        {"image-classification", "question-answering", "text-classification", "token-classification"}
    )

    weights: Literal["float32", "int8"] = "float32"
    """How weights are stored; int8 quantizes activations too, as they come."""
    per_channel: bool = True
    """One int8 scale for each output of a matrix rather than one for all."""
    reduce_range: bool = True
    """Use 7 of the 8 bits: CPUs without VNNI add products up in 16 bits, which full-range weights overflow."""
    embeddings: bool = True
    """Store embeddings as int8 too; often most of a small model."""


def run(
    model: Model,
    config: Config,
    folder: Path,
    examples: Sequence[Mapping[str, torch.Tensor]],
    calibration: Calibration | None = None,
) -> Notes:
    """Write model.onnx, config and processor.

    Args:
        model: Left as it is.
        config: The export's fields.
        folder: An empty folder.
        examples: Collated batches of real inputs; the file is checked on them.
        calibration: Inputs to quantize with; None where the recipe names none.

    Raises:
        StepError: the graph can't be traced, or doesn't compute what the checkpoint computes.
    """
    for package in ("onnx", "onnxruntime", "onnxscript"):
        if find_spec(package) is None:
            raise MissingExtra(package, "onnx")
    module = plain(model.module)
    reference = Reference.of(module, model.task, examples)
    file = folder / FILE
    with quiet():
        program = _traced(module, reference.inputs)
        _write(program, file)
    notes = reference.check(folder, config)
    if config.weights == "int8":
        with quiet():
            _write(_quantized(program, config), file)
        notes = reference.compare(folder, config)
    module.config.save_pretrained(folder)
    tokens.save(model.processor, folder)
    return notes


def _traced(module: Any, inputs: Sequence[Mapping[str, torch.Tensor]]) -> Any:
    from transformers.exporters.exporter_onnx import OnnxExporter

    return traced(OnnxExporter, module, inputs, "onnx", ort_fusions="cpu")


def _quantized(program: Any, config: Config) -> Any:
    from onnxruntime.quantization import QuantType
    from transformers.exporters import OnnxRuntimeDynamicConfig, OnnxRuntimeQuantizer
    from transformers.exporters.configs import ExportFormat

    operators = ["MatMul", "Gemm", "Conv", *(["Gather"] if config.embeddings else [])]
    settings = OnnxRuntimeDynamicConfig(
        op_types_to_quantize=operators,
        per_channel=config.per_channel,
        reduce_range=config.reduce_range,
        weight_type=QuantType.QInt8,
    )
    return OnnxRuntimeQuantizer(settings).quantize(program, {}, ExportFormat.ONNX)


def _write(program: Any, file: Path) -> None:
    import onnx_ir

    size = sum(value.const_value.nbytes for value in program.graph.initializers.values())
    file.unlink(missing_ok=True)
    onnx_ir.save(program, str(file), external_data=f"{FILE}.data" if size > PROTOBUF_LIMIT else None)
