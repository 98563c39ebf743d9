"""OpenVINO, with dynamic batch and length, for the CPU; optionally int8, activations included, calibrated beforehand.

The graph comes from transformers' own exporter. The float32 file is checked against the checkpoint's own logits on real
examples; int8 is made from that graph by nncf, whose ranges are those of calibration rows (SmoothQuant and bias
correction included). The folder also holds config and processor: plain openvino serves it. It takes bfloat16 by itself
where the CPU has it; what was measured is what the graph's own hint says:
`compile_model(graph, "CPU", {"INFERENCE_PRECISION_HINT": "f32"})`.

Recipe::

    - export: openvino
      weights: int8
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from pydantic import Field

from compressit import machine
from compressit.errors import StepError
from compressit.exports import ONE_PASS, Calibration, ExportConfig
from compressit.exports._checking import Reference, unlabelled
from compressit.exports._tracing import quiet, traced
from compressit.model import Model, ranges
from compressit.runtimes import load
from compressit.steps import Fact, Need, Notes

if TYPE_CHECKING:
    import torch


class Config(ExportConfig):
    """Fields of the export."""

    runtime: ClassVar[str] = "openvino"
    carries: ClassVar[frozenset[Fact]] = frozenset({Fact.SHAPES, Fact.SPARSITY, Fact.DTYPE, Fact.RANGES, Fact.FACTORS})
    tasks: ClassVar[frozenset[str]] = ONE_PASS

    weights: Literal["float32", "int8"] = "float32"
    """How weights are stored; int8 quantizes activations too, with ranges found on calibration data."""
    compute: Literal["float32", "bfloat16"] = "float32"
    """What is computed with where it is not int8; bfloat16 is faster on CPUs that have it, and a little less exact."""
    samples: int = Field(300, ge=1)
    """Rows of the calibration split that ranges are found on, evenly spread over it."""

    def idle(self) -> Mapping[str, str]:
        """Name what says how to find ranges, where none are looked for."""
        return {} if self.weights == "int8" else {"samples": "weights: int8"}

    def needs(self) -> frozenset[Need]:
        """Ask for calibration data where activations are quantized."""
        return frozenset({Need.CALIBRATION}) if self.weights == "int8" else frozenset()

    def packages(self) -> dict[str, str]:
        """Name what traces and checks the file, and what rounds it."""
        return dict.fromkeys(("openvino", *(["nncf"] if self.weights == "int8" else [])), "openvino")


def run(
    model: Model,
    config: Config,
    folder: Path,
    examples: Sequence[Mapping[str, torch.Tensor]],
    calibration: Calibration | None = None,
) -> Notes:
    """Write openvino_model.xml and .bin, config and processor.

    Args:
        model: Left as it is.
        config: The export's fields.
        folder: An empty folder.
        examples: Collated batches of real inputs; the file is checked on them.
        calibration: Inputs to quantize with; None where the recipe names none.

    Raises:
        StepError: the graph can't be traced or quantized, or doesn't compute what the checkpoint computes.
    """
    machine.need(config.packages())
    runtime = load("openvino")
    module, reference = Reference.begin(model, folder, examples)
    with quiet():
        runtime.library()
        graph = _traced(module, reference.inputs)
        _write(graph, folder, "f32")
    notes = reference.check(folder, config)
    if config.weights == "int8":
        assert calibration is not None, "the plan refuses to quantize without calibration data"
        with quiet():
            graph = _trained(module, model, reference) if model.ranges else _quantized(graph, config, calibration)
    if config.weights == "int8" or config.compute == "bfloat16":
        _write(graph, folder, "bf16" if config.compute == "bfloat16" else "f32")
        notes = reference.compare(folder, config)
    return {**notes, "compute": config.compute}


def _traced(module: Any, inputs: Sequence[Mapping[str, torch.Tensor]]) -> Any:
    from transformers.exporters.exporter_openvino import OpenVINOConfig, OpenVINOExporter

    return traced(OpenVINOExporter, OpenVINOConfig, module, inputs, "openvino").program


def _quantized(graph: Any, config: Config, calibration: Calibration) -> Any:
    with load("openvino").untold():
        import nncf

    names = {name for port in graph.inputs for name in port.get_names()}
    rows = [
        {name: value.numpy() for name, value in unlabelled(row).items() if name in names}
        for row in calibration(config.samples)
    ]
    try:
        return nncf.quantize(
            graph,
            nncf.Dataset(rows),
            preset=nncf.QuantizationPreset.MIXED,
            model_type=nncf.ModelType.TRANSFORMER,
            subset_size=len(rows),
        )
    except Exception as error:  # nncf and openvino raise many kinds
        raise StepError(f"openvino: nncf can't quantize the model: {' '.join(str(error).split())[:400]}") from error


def _trained(module: Any, model: Model, reference: Reference) -> Any:
    """Trace the model as it was trained, with the scales that it was trained with."""
    from openvino._offline_transformations import compress_quantize_weights_transformation

    with ranges.as_int8(module, model.ranges, traced=True):
        graph = _traced(module, reference.inputs)
    compress_quantize_weights_transformation(graph)
    return graph


def _write(graph: Any, folder: Path, precision: str) -> None:
    runtime = load("openvino")
    graph.set_rt_info(precision, runtime.PRECISION)
    # The file that is there may be the very memory that the graph's weights are read from.
    for file in folder.glob("openvino_model.*"):
        file.unlink()
    runtime.library().save_model(graph, str(folder / runtime.FILE), compress_to_fp16=False)
