"""Run an OpenVINO graph on the CPU."""

from __future__ import annotations

import contextlib
import sys
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from compressit import machine, tasks
from compressit.runtimes import Batch, Facts, Session, in_memory

FILE = "openvino_model.xml"
OPENING = """\
import openvino

graph = openvino.Core().read_model(f"{folder}/openvino_model.xml")
hint = str(graph.get_rt_info(["runtime_options", "INFERENCE_PRECISION_HINT"]).astype(str))    # as it was measured
model = openvino.Core().compile_model(graph, "CPU", {"INFERENCE_PRECISION_HINT": hint})
"""
PRECISION = ["runtime_options", "INFERENCE_PRECISION_HINT"]
"""Where the graph says what it shall be computed in; by itself OpenVINO would take bfloat16 where the CPU has it."""
SMOOTHING = "nncf_smooth_quant"
STORED = {"f32": "float32", "f16": "float16", "bf16": "bfloat16", "i8": "int8", "u8": "uint8"}


def place(device: str) -> str:
    """Run on the CPU: the GPUs that OpenVINO knows are not those of torch."""
    return "cpu"


def open(folder: Path, task: str, device: str, trust_remote_code: bool = False, scratch: Path | None = None) -> Session:
    """Open the graph in the precision that it names, float32 if none; it holds no code, so there is nothing to trust.

    Raises:
        StepError: weights shall stay on disk, which this runtime can't.
    """
    in_memory("openvino", scratch)
    import numpy as np
    import torch

    graph = library().Core().read_model(str(folder / FILE))
    # Threads bound to cores could not make way for what is timed next to this session, or for who shares the machine.
    settings = {"PERFORMANCE_HINT": "LATENCY", PRECISION[1]: precision(graph), "ENABLE_CPU_PINNING": False}
    request = library().Core().compile_model(graph, "CPU", settings).create_infer_request()
    names, wanted = {name for port in graph.inputs for name in port.get_names()}, tasks.outputs(task)
    read = tasks.reader(task, folder)

    def run(batch: Batch) -> Any:
        request.infer({name: array for name, array in batch.items() if name in names}, share_inputs=True)
        # The request writes its next answer where this one lies.
        said = {name: np.array(request.get_tensor(name).data, dtype=np.float32) for name in wanted}
        given = {name: torch.from_numpy(array) for name, array in said.items()}
        return read(given, {name: torch.from_numpy(array) for name, array in batch.items()}).numpy()

    return run


def precision(graph: Any) -> str:
    """Read what a graph shall be computed in: f32 or bf16."""
    return str(graph.get_rt_info(PRECISION).astype(str)) if graph.has_rt_info(PRECISION) else "f32"


def inspect(folder: Path) -> Facts:
    """Read the weights of the graph: its float and int8 constants; shapes, indices, scales and zero points are not."""
    import numpy as np

    graph = library().Core().read_model(str(folder / FILE))
    dtypes: Counter[str] = Counter()
    nonzero, seen = 0, set()
    for node in graph.get_ops():
        kind = STORED.get(node.get_element_type().get_type_name()) if node.get_type_name() == "Constant" else None
        if kind is None or _scales(node):
            continue
        array = node.data
        # Constants of one content lie in the file once.
        if array.size < 2 or array.ctypes.data in seen:
            continue
        seen.add(array.ctypes.data)
        dtypes[kind] += array.size
        nonzero += int(np.count_nonzero(array != _zero(node)))
    size = sum(file.stat().st_size for file in folder.glob("openvino_model.*"))
    return Facts(size, dtypes.total(), nonzero, dict(dtypes))


def _scales(constant: Any) -> bool:
    """Tell whether a constant says how integers are to be read."""
    if SMOOTHING in constant.get_friendly_name():
        return True
    users = _users(constant)
    # A zero point is an integer itself, and is converted before it is subtracted.
    users += [last for user, _ in users if user.get_type_name() == "Convert" for last in _users(user)]
    return any(
        (user.get_type_name() == "FakeQuantize" and index > 0)
        or (user.get_type_name() in ("Multiply", "Subtract") and index == 1 and _integers(user.input_value(0)))
        for user, index in users
    )


def _zero(constant: Any) -> Any:
    """Find the number that stands for zero in a constant of integers."""
    for convert, _ in _users(constant):
        for user, index in _users(convert) if _integers(convert.output(0)) else ():
            if user.get_type_name() == "Subtract" and index == 0:
                point = user.input_value(1).get_node()
                return point.data if point.get_type_name() == "Constant" else point.input_value(0).get_node().data
    return 0


def _users(node: Any) -> list[tuple[Any, int]]:
    """List who takes a node's output, and as which input."""
    return [(port.get_node(), port.get_index()) for port in node.output(0).get_target_inputs()]


def _integers(value: Any) -> bool:
    """Tell whether a value is a constant of integers, converted to floats and perhaps moved to its zero point."""
    node = value.get_node()
    if node.get_type_name() == "Subtract":
        node = node.input_value(0).get_node()
    if node.get_type_name() != "Convert":
        return False
    source = node.input_value(0)
    return source.get_node().get_type_name() == "Constant" and bool(source.get_element_type().is_integral())


def ready() -> None:
    """Look whether openvino is installed.

    Raises:
        MissingExtra: it is not.
    """
    machine.need({"openvino": "openvino"})


def library() -> Any:
    """Import openvino, which shall not report to its makers what it is used for.

    Raises:
        MissingExtra: it is not installed.
    """
    ready()
    with untold():
        import openvino
    return openvino


@contextlib.contextmanager
def untold() -> Iterator[None]:
    """Hide the package through which openvino and nncf send usage statistics while they are imported."""
    package = "openvino_telemetry"
    if package in sys.modules:
        yield
        return
    absent: Any = None
    sys.modules[package] = absent
    try:
        yield
    finally:
        del sys.modules[package]
