"""Run an ONNX file on onnxruntime."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from compressit import machine, tasks
from compressit.runtimes import Batch, Facts, Session, in_memory

FILE = "model.onnx"
OPENING = """\
import onnxruntime

session = onnxruntime.InferenceSession(f"{folder}/model.onnx")
"""
STORED = ("float", "float16", "bfloat16", "int8", "uint8")
NOT_WEIGHTS = ("_scale", "_zero_point")

PROVIDERS = {"cpu": "CPUExecutionProvider", "cuda": "CUDAExecutionProvider"}


def place(device: str) -> str:
    """Run on the GPU only where this onnxruntime was built for it; the usual one is not."""
    return device if PROVIDERS[device] in _library().get_available_providers() else "cpu"


def open(folder: Path, task: str, device: str, trust_remote_code: bool = False, scratch: Path | None = None) -> Session:
    """Open model.onnx; the file holds no code, so there is nothing to trust.

    Raises:
        StepError: weights shall stay on disk, which this runtime can't.
    """
    in_memory("onnxruntime", scratch)
    import torch

    ort = _library()
    provider = PROVIDERS[device]
    options = ort.SessionOptions()
    # Threads that spin between runs would slow whatever is timed next to this session, and whoever shares the machine.
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    options.log_severity_level = 3
    session = ort.InferenceSession(str(folder / FILE), options, providers=[provider])
    names, wanted = {value.name for value in session.get_inputs()}, tasks.outputs(task)
    read = tasks.reader(task, folder)

    def run(batch: Batch) -> Any:
        said = session.run(wanted, {name: array for name, array in batch.items() if name in names})
        given = {name: torch.from_numpy(array) for name, array in zip(wanted, said, strict=True)}
        return read(given, {name: torch.from_numpy(array) for name, array in batch.items()}).numpy()

    return run


def inspect(folder: Path) -> Facts:
    """Read the weights of model.onnx: its float and int8 constants; shapes, indices, scales and zero points are not."""
    _library()
    import onnx
    from onnx import numpy_helper

    file = folder / FILE
    graph = onnx.load(str(file)).graph
    zero_points = {value.name: value for value in graph.initializer if value.name.endswith("_zero_point")}
    parameters = nonzero = 0
    dtypes: dict[str, int] = {}
    for value in graph.initializer:
        kind = onnx.TensorProto.DataType.Name(value.data_type).lower()
        # A bias that is added to products of integers is one itself; other int32 are indices.
        stored = (*STORED, "int32") if value.name.endswith("_quantized") else STORED
        if value.name.endswith(NOT_WEIGHTS) or kind not in stored:
            continue
        array = numpy_helper.to_array(value)
        if array.size < 2:
            continue
        parameters += array.size
        nonzero += int((array != _zero(value.name, array, zero_points, numpy_helper)).sum())
        name = "float32" if kind == "float" else kind
        dtypes[name] = dtypes.get(name, 0) + array.size
    size = sum(part.stat().st_size for part in folder.glob(f"{FILE}*"))
    return Facts(size, parameters, nonzero, dtypes)


def _zero(name: str, array: Any, zero_points: dict[str, Any], numpy_helper: Any) -> Any:
    """Find the number that stands for zero in a quantized constant."""
    point = zero_points.get(name.removesuffix("_quantized") + "_zero_point")
    if point is None or array.dtype.kind == "f":
        return 0
    found = numpy_helper.to_array(point)
    if found.size <= 1:
        return found.item() if found.size else 0
    axis = next(axis for axis in reversed(range(array.ndim)) if array.shape[axis] == found.size)
    shape = [1] * array.ndim
    shape[axis] = found.size
    return found.reshape(shape)


def ready() -> None:
    """Look whether onnxruntime is installed, and onnx, which reads its files.

    Raises:
        MissingExtra: one of them is not.
    """
    machine.need(dict.fromkeys(("onnxruntime", "onnx"), "onnx"))


def _library() -> Any:
    ready()
    import onnxruntime

    return onnxruntime
