"""ExecuTorch, for phones and other small devices; optionally int8.

The program comes from transformers' own exporter and runs on XNNPACK, the CPU library of ExecuTorch. The float32 file
is checked against the checkpoint's own logits on real examples. In int8, PyTorch's PT2E quantization rounds the weights
of linear layers, one scale for each output, and what is multiplied with them by its own range as it comes; embeddings
stay in float32, for XNNPACK has none in int8. A program takes one example at a time, for its memory is laid out
beforehand, as long as the model takes. The folder also holds export.json, config and processor: the program runs
wherever ExecuTorch does, and `transformers.exporters` opens the folder.

Recipe::

    - export: executorch
      weights: int8
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from compressit import machine
from compressit.errors import StepError
from compressit.exports import ONE_PASS, Calibration, ExportConfig
from compressit.exports._checking import Reference
from compressit.exports._tracing import made_of, quiet, traced
from compressit.model import Model
from compressit.steps import Fact, Notes, StepConfig
from compressit.weights import Weights

if TYPE_CHECKING:
    import torch


class Config(ExportConfig):
    """Fields of the export."""

    runtime: ClassVar[str] = "executorch"
    carries: ClassVar[frozenset[Fact]] = frozenset({Fact.SHAPES, Fact.SPARSITY, Fact.DTYPE, Fact.FACTORS})

    tasks: ClassVar[frozenset[str]] = ONE_PASS - {"audio-classification"}

    weights: Literal["float32", "int8"] = "float32"
    """How weights of linear layers are stored; int8 quantizes what is multiplied with them too."""

    def packages(self) -> dict[str, str]:
        """Name what lowers, runs and rounds the program."""
        return dict.fromkeys(("executorch.runtime", *(["torchao"] if self.weights == "int8" else [])), "executorch")


def foresee(config: Config, steps: Sequence[StepConfig], weights: Weights | None) -> None:
    """Refuse to round a model of convolutions.

    Raises:
        StepError: with what to do.
    """
    if config.weights == "int8" and weights is not None and weights.convolutional:
        raise StepError(
            "executorch: int8 is for linear layers, and this model is made of convolutions",
            hint="export it with weights: float32, or to onnx, where convolutions become int8",
        )


def run(
    model: Model,
    config: Config,
    folder: Path,
    examples: Sequence[Mapping[str, torch.Tensor]],
    calibration: Calibration | None = None,
) -> Notes:
    """Write model.pte, export.json, config and processor.

    Args:
        model: Left as it is.
        config: The export's fields.
        folder: An empty folder.
        examples: Collated batches of real inputs; the file is checked on them.
        calibration: Not needed.

    Raises:
        StepError: the model can't be traced, lowered or rounded, or the program doesn't compute what it computes.
    """
    machine.need(config.packages())
    foresee(config, (), made_of(model.module))  # the plan may not have known the model
    module, reference = Reference.begin(model, folder, examples)
    longest = _longest(model)
    with quiet():
        _write(module, reference.inputs, longest, folder)
    notes = reference.check(folder, config)
    if config.weights == "int8":
        with quiet():
            _write(module, reference.inputs, longest, folder, quantizer=_quantizer(reference.inputs[0]))
        notes = reference.compare(folder, config)
    return notes


def _write(
    module: Any,
    inputs: Sequence[Mapping[str, torch.Tensor]],
    longest: int,
    folder: Path,
    quantizer: Any = None,
) -> None:
    from transformers.exporters import ExecutorchConfig, ExecutorchExporter

    exported = traced(ExecutorchExporter, ExecutorchConfig, module, inputs, "executorch", longest, quantizer=quantizer)
    exported.save_pretrained(folder)


def _quantizer(sample: Mapping[str, torch.Tensor]) -> Any:
    import torch
    from executorch.backends.xnnpack.quantizer.xnnpack_quantizer import (
        XNNPACKQuantizer,
        get_symmetric_quantization_config,
    )
    from transformers.exporters import PT2EQuantizer

    class Linear(XNNPACKQuantizer):  # type: ignore[misc]
        def transform_for_annotation(self, model: Any) -> Any:
            """Leave alone the numbers that it would make float constants of, for those that are added to places too."""
            return model

    linear = Linear().set_module_type(
        torch.nn.Linear, get_symmetric_quantization_config(is_per_channel=True, is_dynamic=True)
    )
    # Dynamic ranges want no data, but what watches has to be run once, on an example as it was traced.
    return PT2EQuantizer(linear, [{name: value[:1] for name, value in sample.items()}])


def _longest(model: Model) -> int:
    """Give the most tokens that a model takes, as its tokenizer and its positions say."""
    said = getattr(model.processor, "model_max_length", None)
    places = getattr(model.module.config, "max_position_embeddings", None)
    return min(int(each) for each in (said, places, 1 << 20) if each)
