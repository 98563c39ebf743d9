"""ONNX, with dynamic batch and length, for onnxruntime; optionally int8 with activations quantized at run time.

The graph comes from transformers' own exporter, fused into onnxruntime's operators. The float32 file is checked
against the checkpoint's own logits on real examples; int8 weights are made from that graph by onnxruntime's
quantizer. The folder also holds config and processor: onnxruntime and a tokenizer or image processor serve it.

Recipe::

    - export: onnx
      weights: int8
"""

from __future__ import annotations

import contextlib
import copy
import io
import logging
import warnings
from collections.abc import Iterator, Mapping, Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from compressit import tasks
from compressit.errors import MissingExtra, StepError
from compressit.exports import ExportConfig
from compressit.model import Model, tokens
from compressit.steps import Fact, Notes

if TYPE_CHECKING:
    import numpy as np
    import torch
    from numpy.typing import NDArray

FILE = "model.onnx"
TOLERANCE = 1e-3
"""Largest difference from the checkpoint's logits, as a share of how far those spread between examples."""
PROTOBUF_LIMIT = 1_900_000_000


class Config(ExportConfig):
    """Fields of the export."""

    runtime: ClassVar[str] = "onnxruntime"
    carries: ClassVar[frozenset[Fact]] = frozenset({Fact.SHAPES, Fact.SPARSITY, Fact.DTYPE})

    tasks: ClassVar[frozenset[str]] = frozenset({"image-classification", "text-classification"})

    weights: Literal["float32", "int8"] = "float32"
    """How weights are stored; int8 quantizes activations too, as they come."""
    per_channel: bool = True
    """One int8 scale for each output of a matrix rather than one for all."""
    reduce_range: bool = True
    """Use 7 of the 8 bits: CPUs without VNNI add products up in 16 bits, which full-range weights overflow."""
    embeddings: bool = True
    """Store embeddings as int8 too; often most of a small model."""


def run(model: Model, config: Config, folder: Path, examples: Sequence[Mapping[str, torch.Tensor]]) -> Notes:
    """Write model.onnx, config and processor.

    Args:
        model: Left as it is.
        config: The export's fields.
        folder: An empty folder.
        examples: Collated batches of real inputs; the file is checked on them.

    Raises:
        StepError: the graph can't be traced, or doesn't compute what the checkpoint computes.
    """
    for package in ("onnx", "onnxruntime", "onnxscript"):
        if find_spec(package) is None:
            raise MissingExtra(package, "onnx")
    module = _plain(model.module)
    inputs = [{name: value.cpu() for name, value in batch.items() if name != "labels"} for batch in examples]
    expected = _said(module, model.task, inputs)
    file = folder / FILE
    with _quiet():
        program = _trace(module, inputs)
        _write(program, file)
    notes = _check(file, model.task, inputs, expected)
    if config.weights == "int8":
        with _quiet():
            _write(_quantized(program, config), file)
        notes = _compare(file, model.task, inputs, expected)
    module.config.save_pretrained(folder)
    tokens.save(model.processor, folder)
    return notes


def _plain(module: Any) -> Any:
    """Give the module in float32 on the CPU; a copy where it is not that already."""
    import torch

    if module.dtype == torch.float32 and module.device.type == "cpu":
        return module
    return copy.deepcopy(module).to("cpu", torch.float32)


def _trace(module: Any, inputs: Sequence[Mapping[str, torch.Tensor]]) -> Any:
    import torch
    from transformers.exporters.exporter_onnx import OnnxConfig, OnnxExporter

    largest = max(inputs, key=lambda batch: next(iter(batch.values())).numel())
    # A dimension of size one would be taken for a constant.
    sample = {name: torch.cat([value, value]) if len(value) == 1 else value for name, value in largest.items()}
    free = torch.export.Dim.DYNAMIC
    shapes = {name: {0: free, 1: free} if value.dim() == 2 else {0: free} for name, value in sample.items()}
    try:
        return OnnxExporter().export(module, sample, OnnxConfig(dynamic_shapes=shapes, ort_fusions="cpu")).program
    except Exception as error:  # torch.export and onnxscript raise many kinds
        raise StepError(f"onnx: the model can't be traced: {' '.join(str(error).split())[:400]}") from error


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


def _said(module: Any, task: str, inputs: Sequence[Mapping[str, torch.Tensor]]) -> NDArray[np.float32]:
    import numpy as np
    import torch

    with torch.inference_mode():
        said = [tasks.answer(task, module(**batch), torch.stack).numpy() for batch in inputs]
    return np.concatenate([each.reshape(-1, each.shape[-1]) for each in said])


def _file_said(file: Path, task: str, inputs: Sequence[Mapping[str, torch.Tensor]]) -> NDArray[np.float32]:
    import numpy as np

    from compressit.runtimes import load

    session = load("onnxruntime").open(file.parent, task, "cpu")
    said = [session({name: value.numpy() for name, value in batch.items()}) for batch in inputs]
    return np.concatenate([each.reshape(-1, each.shape[-1]) for each in said])


def _check(file: Path, task: str, inputs: Sequence[Mapping[str, torch.Tensor]], expected: NDArray[np.float32]) -> Notes:
    """Compare the float32 file with the checkpoint, by the spread of logits between examples."""
    notes = _compare(file, task, inputs, expected)
    spread = float(expected.std(0).mean()) or 1.0
    if float(notes["max_difference"]) > TOLERANCE * max(spread, 1e-3):
        raise StepError(
            f"onnx: the file's logits differ from the checkpoint's by up to {notes['max_difference']:.2g}, "
            f"where logits spread by {spread:.2g} between examples",
            hint="the exporter mistranslates this architecture; leave the export out and report it",
        )
    return notes


def _compare(
    file: Path, task: str, inputs: Sequence[Mapping[str, torch.Tensor]], expected: NDArray[np.float32]
) -> Notes:
    import numpy as np

    found = _file_said(file, task, inputs)
    if not np.isfinite(found).all():
        raise StepError("onnx: the file's logits are not finite")
    return {
        "max_difference": float(np.abs(found - expected).max()),
        "agreement": float((found.argmax(-1) == expected.argmax(-1)).mean()),
    }


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Keep the exporter's prints, logs and warnings off the terminal."""
    before = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(before)
