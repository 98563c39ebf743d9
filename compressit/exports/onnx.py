"""ONNX, with dynamic batch and length, for onnxruntime; optionally int8, activations included.

The graph comes from transformers' own exporter, fused into onnxruntime's operators. The float32 file is checked
against the checkpoint's own logits on real examples; int8 weights are made from that graph by onnxruntime's
quantizer. Activations become int8 where a matrix is multiplied: each by its own range as it comes (`activations:
dynamic`), or by the range that calibration rows had (`static`). By default it is `static` for models of convolutions,
which then want calibration data, and `dynamic` for all others: a ResNet-18 takes 3.3 times as long as in float32 with
dynamic ranges, and 0.30 times with static ones; a ConvNeXt-T 1.45 and 0.39 times (one thread, 224 x 224 pixels;
`tests/benchmarks/bench_channels.py latency`). The folder also holds config and processor: onnxruntime and a tokenizer,
image processor or feature extractor serve it.

Recipe::

    - export: onnx
      weights: int8
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from pydantic import Field

from compressit import machine, tasks
from compressit.exports import ONE_PASS, Calibration, ExportConfig, check_settled
from compressit.exports._checking import Reference, unlabelled
from compressit.exports._rewriting import share, unfuse
from compressit.exports._tracing import made_of, quiet, traced
from compressit.model import Model
from compressit.steps import Fact, Need, Notes
from compressit.weights import Weights

if TYPE_CHECKING:
    import torch

FILE = "model.onnx"
PROTOBUF_LIMIT = 1_900_000_000


class Config(ExportConfig):
    """Fields of the export."""

    runtime: ClassVar[str] = "onnxruntime"
    carries: ClassVar[frozenset[Fact]] = frozenset({Fact.SHAPES, Fact.SPARSITY, Fact.DTYPE, Fact.FACTORS})

    tasks: ClassVar[frozenset[str]] = ONE_PASS

    weights: Literal["float32", "int8"] = "float32"
    """How weights are stored; int8 quantizes activations too."""
    activations: Literal["auto", "dynamic", "static"] = "auto"
    """Whether int8 activations are scaled by their own range, as they come, or by that of calibration data; `auto` is
    `static` where a good part of the work is convolutions over pictures or sounds, and elsewhere `dynamic`."""
    samples: int = Field(300, ge=1)
    """Rows of the calibration split that static ranges are found on, evenly spread over it."""
    per_channel: bool = True
    """One int8 scale for each output of a matrix rather than one for all."""
    reduce_range: bool = True
    """Use 7 of the 8 bits: CPUs without VNNI add products up in 16 bits, which full-range weights overflow."""
    embeddings: bool = True
    """Store embeddings as int8 too; often most of a small model."""

    def idle(self) -> Mapping[str, str]:
        """Name what says how to round, where nothing is rounded, or not by ranges of calibration data."""
        if self.weights != "int8":
            rounding = ("activations", "samples", "per_channel", "reduce_range", "embeddings")
            return dict.fromkeys(rounding, "weights: int8")
        return {"samples": "activations: static"} if self.activations == "dynamic" else {}

    def unfit(self, task: str) -> str | None:
        """Refuse to tell how embeddings of tokens are stored where there are none."""
        if self.says("embeddings") and not tasks.reads_tokens(task):
            return f"embeddings are of a text's tokens, and {task} has none; leave it out"
        return None

    def needs(self) -> frozenset[Need]:
        """Ask for calibration data where activations have ranges of their own beforehand."""
        return frozenset({Need.CALIBRATION}) if self.activations == "static" else frozenset()

    def packages(self) -> dict[str, str]:
        """Name what traces, writes and checks the file."""
        return dict.fromkeys(("onnx", "onnxruntime", "onnxscript"), "onnx")

    def settled(self, table: Weights | None) -> Config:
        """Choose how activations are scaled, by what the model is made of."""
        if self.weights != "int8" or self.activations != "auto" or table is None:
            return self
        return self.model_copy(update={"activations": "static" if table.convolutional else "dynamic"})


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
    machine.need(config.packages())
    written, config = config, config.settled(made_of(model.module))
    check_settled(written, config, calibrated=calibration is not None)
    module, reference = Reference.begin(model, folder, examples)
    file = folder / FILE
    with quiet():
        program = _traced(module, reference.inputs)
        _write(program, file)
    notes = reference.check(folder, config)
    if config.weights == "int8":
        with quiet():
            _write(_quantized(program, config, calibration), file)
        notes = {**reference.compare(folder, config), "activations": config.activations}
    return notes


def _traced(module: Any, inputs: Sequence[Mapping[str, torch.Tensor]]) -> Any:
    from onnx_ir.passes.common import ClearMetadataAndDocStringPass
    from transformers.exporters.exporter_onnx import OnnxConfig, OnnxExporter

    program = traced(OnnxExporter, OnnxConfig, module, inputs, "onnx", ort_fusions="cpu").program
    # Where in the source each operator comes from fills a quarter of a megabyte.
    ClearMetadataAndDocStringPass()(program)
    unfuse(program)
    share(program)
    for value in program.graph.initializers.values():
        # The fusions leave some with the shape of what they replaced, which the quantizer stumbles over.
        value.shape = value.const_value.shape
    return program


def _quantized(program: Any, config: Config, calibration: Calibration | None) -> Any:
    from onnxruntime.quantization import QuantType
    from transformers.exporters import OnnxRuntimeDynamicConfig, OnnxRuntimeQuantizer, OnnxRuntimeStaticConfig
    from transformers.exporters.configs import ExportFormat

    matrices, embeddings = ["MatMul", "Gemm", "Conv"], ["Gather"] if config.embeddings else []
    shared = {"per_channel": config.per_channel, "reduce_range": config.reduce_range, "weight_type": QuantType.QInt8}

    def dynamic(given: Any, operators: list[str]) -> Any:
        settings = OnnxRuntimeDynamicConfig(op_types_to_quantize=operators, **shared)
        return OnnxRuntimeQuantizer(settings).quantize(given, {}, ExportFormat.ONNX)

    if config.activations == "dynamic":
        return dynamic(program, [*matrices, *embeddings])
    assert calibration is not None, "it has been looked for"
    settings = OnnxRuntimeStaticConfig(
        op_types_to_quantize=matrices,
        activation_type=QuantType.QUInt8,
        # Rounding what comes out of a product too, or what attention multiplies, costs answers and gains no time.
        extra_options={"OpTypesToExcludeOutputQuantization": ["MatMul", "Gemm"]},
        nodes_to_exclude=[node.name for node in program.graph if node.op_type == "MatMul" and not _weighs(node)],
        **shared,
    )
    rows = [unlabelled(row) for row in calibration(config.samples)]
    found = OnnxRuntimeQuantizer(settings, rows).quantize(program, {}, ExportFormat.ONNX)
    return dynamic(found, embeddings) if embeddings else found


def _weighs(node: Any) -> bool:
    """Tell whether a product is one with weights."""
    return any(value is not None and value.is_initializer() for value in node.inputs)


def _write(program: Any, file: Path) -> None:
    import onnx_ir

    size = sum(value.const_value.nbytes for value in program.graph.initializers.values())
    file.unlink(missing_ok=True)
    onnx_ir.save(program, str(file), external_data=f"{FILE}.data" if size > PROTOBUF_LIMIT else None)
